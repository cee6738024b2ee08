"""Every decision of scheduler and cache is told once, with what it was based on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.agent_commands import EvictAgent
from engine.cache.block import BLOCK_TOKENS
from engine.core import EngineCore
from engine.telemetry import Telemetry
from engine.trace import Record, Trace
from tests.engine.counting_model import make_core
from tests.engine.disk_core import DiskCore
from tests.engine.turns import run, submit

PROMPT = list(range(2 * BLOCK_TOKENS + 40))


def listen(telemetry: Telemetry) -> list[Record]:
    records: list[Record] = []
    telemetry.trace = Trace(records.append, lambda: 12.5)
    return records


def of_kind(records: Sequence[Record], kind: str) -> list[dict[str, Any]]:
    return [dict(record) for record in records if record["kind"] == kind]


def traced_core(**settings: Any) -> tuple[EngineCore, list[Record]]:
    core, _, telemetry = make_core(**settings)
    return core, listen(telemetry)


def test_a_turn_is_told_from_its_admission_to_its_end() -> None:
    core, records = traced_core()
    turn = submit(core, "a", PROMPT, max_tokens=3)
    run(core)

    (admit,), (match,) = of_kind(records, "admit"), of_kind(records, "match")
    whose = {"request_id": turn.request_id, "agent": "a"}
    assert admit.items() >= {**whose, "num_tokens": len(PROMPT), "num_running": 1}.items()
    assert admit["wait_s"] > 0
    assert admit["num_waiting"] == 0
    assert match["num_tokens"] == 0
    slices = of_kind(records, "slice")
    assert sum(each["num_tokens"] for each in slices) == len(PROMPT) - 1
    assert [each["num_remaining_tokens"] for each in slices] == [296, 40, 1]
    (decode,) = of_kind(records, "decode")
    assert (decode["num_steps"], decode["num_tokens"]) == (3, 3)
    assert 0 < decode["longest_s"] < decode["seconds"]
    (finish,) = of_kind(records, "finish")
    assert finish.items() >= {**whose, "reason": "max_tokens", "num_generated_tokens": 3}.items()
    kinds = [record["kind"] for record in records]
    assert kinds == ["admit", "match", *["slice"] * 3, "decode", "finish"]
    assert all(record["time"] == 12.5 for record in records)


def test_a_next_turn_says_what_matched_and_what_was_lost_and_why() -> None:
    core, records = traced_core()
    submit(core, "a", PROMPT)
    run(core)
    records.clear()
    turn = submit(core, "a", [*PROMPT[:300], 7, *PROMPT[301:]])
    run(core)

    (match,), (miss,) = of_kind(records, "match"), of_kind(records, "miss")
    assert match["num_tokens"] == 300
    assert match["num_restored_tokens"] == 0
    assert miss["request_id"] == turn.request_id
    assert (miss["cause"], miss["changed_token"]) == ("changed text", 300)
    # All but the token that is new in its place.
    assert miss["num_lost_tokens"] == len(PROMPT) - 301


def test_what_another_turn_computed_meanwhile_is_told_as_a_match() -> None:
    core, records = traced_core()
    for agent in ("a", "b"):
        submit(core, agent, PROMPT)
    run(core)

    found = [each["num_tokens"] for each in of_kind(records, "match")]
    assert sorted(found) == [0, 0, 2 * BLOCK_TOKENS]


def test_who_has_to_wait_is_told_with_who_for() -> None:
    core, records = traced_core(num_blocks=4)
    turns = [submit(core, name, PROMPT[:200], max_tokens=400) for name in ("a", "b")]
    run(core)

    preempts = of_kind(records, "preempt")
    assert preempts
    assert preempts[0]["request_id"] == turns[1].request_id
    assert preempts[0]["waits_for"] == turns[0].request_id
    assert preempts[0]["num_computed_tokens"] >= 200


def test_caches_that_go_and_come_back_are_told(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path)
    records = listen(disk.telemetry)
    submit(disk.core, "a", PROMPT)
    disk.run()
    disk.await_saved("a")
    disk.core.actions.obey(EvictAgent(agent_id="a"))
    disk.do_posted()
    turn = submit(disk.core, "a", [*PROMPT, 1, 2])
    disk.run()
    disk.close()

    (evict,), (restore,) = of_kind(records, "evict"), of_kind(records, "restore")
    assert (evict["agent"], evict["reason"]) == ("a", "by hand")
    assert evict["num_tokens"] >= len(PROMPT)
    assert restore["request_id"] == turn.request_id
    assert restore["num_tokens"] >= 2 * BLOCK_TOKENS
    assert of_kind(records, "match")[-1]["num_restored_tokens"] >= 2 * BLOCK_TOKENS


def test_room_made_by_an_idle_agent_is_told() -> None:
    core, records = traced_core(num_blocks=4)
    for name in ("a", "b"):
        submit(core, name, [ord(name), *PROMPT])
        run(core)

    (evict,) = of_kind(records, "evict")
    assert (evict["agent"], evict["reason"]) == ("a", "oldest, for room")


def test_events_carry_the_id_of_their_request() -> None:
    core, _, telemetry = make_core()
    turn = submit(core, "a", PROMPT)
    core.abort(turn.request_id, "client went away")

    (event,) = telemetry.events
    assert (event.kind, event.request_id) == ("abort", turn.request_id)


def test_records_are_plain_and_have_no_token_of_the_prompt() -> None:
    core, records = traced_core()
    submit(core, "a", [987_654_321, *PROMPT])
    run(core)
    assert "987654321" not in json.dumps(records)


def test_decode_steps_are_told_once_a_second() -> None:
    records: list[Record] = []
    trace = Trace(records.append, lambda: 0.0)
    for _ in range(100):
        trace.decoded(4, 0.05)
    assert [record["num_steps"] for record in records] == [20] * 5
