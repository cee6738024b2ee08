"""What the engine says of each turn's misses: in its usage, its row, its totals and its events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.cache.agent import Agent
from engine.cache.earlier_context import repeated_prompt
from engine.core import EngineCore
from engine.errors import NotOnDiskError
from engine.request import PromptPart
from engine.snapshot import AgentRow, AgentStatus, MissCause, MissRow
from engine.telemetry import Telemetry
from tests.engine.counting_model import NOT_FINITE, make_core
from tests.engine.disk_core import DiskCore
from tests.engine.stateful_model import StatefulRunner
from tests.engine.turns import run, submit

PARTS = (PromptPart("system", 0), PromptPart("message 1 (user)", 600))


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def changed_at(tokens: Sequence[int], index: int) -> list[int]:
    return [*tokens[:index], tokens[index] + 1, *tokens[index + 1 :]]


def ask(core: EngineCore, agent: str, tokens: Sequence[int]) -> MissRow:
    turn = submit(core, agent, tuple(tokens), parts=PARTS)
    run(core)
    return turn.deltas[-1].usage.miss


def ask_disk(disk: DiskCore, agent: str, tokens: Sequence[int]) -> MissRow:
    turn = submit(disk.core, agent, tuple(tokens), parts=PARTS)
    disk.run()
    return turn.deltas[-1].usage.miss


def counts(miss: MissRow) -> tuple[int, int, int, int]:
    return (
        miss.num_hot_tokens,
        miss.num_warm_tokens,
        miss.num_lost_tokens,
        miss.num_new_tokens,
    )


def row_of(core: EngineCore, agent_id: str) -> AgentRow:
    _, rows = core.publisher.draw(core.stepper.reading, 0.0)
    return next(row for row in rows if row.agent_id == agent_id)


def events(telemetry: Telemetry) -> list[str]:
    return [event.text for event in telemetry.events if event.kind == "miss"]


def test_a_changed_system_prompt_is_explained_everywhere() -> None:
    core, _, telemetry = make_core()
    assert ask(core, "a", prompt(1, 700)).cause is MissCause.FIRST_TURN
    assert not events(telemetry)

    miss = ask(core, "a", changed_at(prompt(1, 750), 300))

    assert (miss.cause, miss.part, miss.changed_token) == (MissCause.CHANGED_TEXT, "system", 300)
    assert counts(miss) == (300, 0, 407, 43)  # 707 tokens were known
    assert miss.lost_s is not None
    assert miss.lost_s > 0
    assert events(telemetry) == [f"a: {miss.words}"]
    assert miss.words.startswith("system changed at token 300: 407 tokens, ")
    row = row_of(core, "a")
    assert row.miss == miss
    assert row.turns[-1].miss == miss.words
    totals = telemetry.row(0.0)
    assert (totals.num_prompt_tokens, totals.num_lost_tokens) == (1450, 407)


def test_a_conversation_that_only_grows_loses_nothing() -> None:
    core, _, telemetry = make_core()
    ask(core, "a", prompt(1, 700))
    miss = ask(core, "a", [*core.agents.get("a").token_ids, *prompt(2, 30)])
    assert counts(miss) == (707, 0, 0, 30)
    assert miss.cause is MissCause.NONE
    assert not events(telemetry)


def test_agents_that_arrive_together_are_counted_as_they_share() -> None:
    core, _, telemetry = make_core()
    turns = [submit(core, f"a{n}", prompt(1, 1000)) for n in range(4)]
    run(core)
    for turn in turns:
        miss = turn.deltas[-1].usage.miss
        assert miss.num_cached_tokens == turn.num_cached_tokens
        assert miss.num_prompt_tokens == 1000
    totals = telemetry.row(0.0)
    assert totals.num_cached_tokens == sum(turn.num_cached_tokens for turn in turns) > 2000


def test_an_eviction_without_a_disk_is_the_cause() -> None:
    core, _, telemetry = make_core()
    ask(core, "a", prompt(1, 700))
    core.actions.evict("a")
    miss = ask(core, "a", prompt(1, 700))
    assert miss.cause is MissCause.EVICTED
    assert counts(miss) == (0, 0, 699, 1)
    assert events(telemetry)[0].startswith("a: evicted: 699 tokens")


def test_a_restart_loses_nothing_and_says_what_was_read(tmp_path: Path) -> None:
    first = DiskCore(tmp_path)
    ask_disk(first, "a", prompt(1, 700))
    reply = first.core.agents.get("a").token_ids
    first.close()

    disk = DiskCore(tmp_path)
    assert row_of(disk.core, "a").miss.cause is MissCause.FIRST_TURN
    miss = ask_disk(disk, "a", [*reply, *prompt(2, 30)])
    assert counts(miss) == (0, 707, 0, 30)
    assert miss.cause is MissCause.NONE
    disk.close()


def test_what_others_kept_in_memory_is_told_from_what_was_read(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path)
    ask_disk(disk, "a", prompt(1, 700))
    ask_disk(disk, "b", [*prompt(1, 512), *prompt(2, 100)])
    disk.await_saved("a")
    disk.core.actions.evict("a")
    miss = ask_disk(disk, "a", changed_at(prompt(1, 800), 600))
    assert counts(miss) == (512, 88, 107, 93)  # the whole tail was read, its beginning used
    disk.close()


@pytest.mark.parametrize("index", [256, 300, 512, 515, 530, 650])
def test_a_change_is_found_to_the_token_after_a_restart(tmp_path: Path, index: int) -> None:
    first = DiskCore(tmp_path)
    ask_disk(first, "a", prompt(1, 700))
    first.close()

    disk = DiskCore(tmp_path)
    miss = ask_disk(disk, "a", changed_at(prompt(1, 800), index))
    assert (miss.cause, miss.changed_token) == (MissCause.CHANGED_TEXT, index)
    # Fewer tokens of a tail than this are not worth a read.
    num_read = 512 if index in (512, 515) else index
    assert counts(miss) == (0, num_read, 707 - num_read, 93)
    assert miss.part == ("system" if index < 600 else "message 1 (user)")
    disk.close()


def test_files_that_are_gone_are_the_cause(tmp_path: Path) -> None:
    first = DiskCore(tmp_path)
    ask_disk(first, "a", prompt(1, 700))
    first.close()
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()

    disk = DiskCore(tmp_path)
    miss = ask_disk(disk, "a", prompt(1, 700))
    assert miss.cause is MissCause.NOT_ON_DISK
    assert counts(miss) == (0, 0, 699, 1)
    disk.close()


def test_a_cache_of_another_model_is_named(tmp_path: Path) -> None:
    first = DiskCore(tmp_path)
    ask_disk(first, "a", prompt(1, 700))
    first.close()

    disk = DiskCore(tmp_path, fingerprint="another")
    miss = ask_disk(disk, "a", prompt(1, 700))
    assert miss.cause is MissCause.OTHER_MODEL
    assert counts(miss) == (0, 0, 512, 188)  # two full blocks are proven to be the same tokens
    assert ask_disk(disk, "b", prompt(2, 300)).cause is MissCause.FIRST_TURN
    assert ask_disk(disk, "a", prompt(1, 700)).cause is MissCause.NONE
    disk.close()


def test_a_cache_in_another_format_is_named(tmp_path: Path) -> None:
    first = DiskCore(tmp_path)
    ask_disk(first, "a", prompt(1, 700))
    first.close()

    disk = DiskCore(tmp_path, runner=StatefulRunner())
    assert ask_disk(disk, "a", prompt(1, 700)).cause is MissCause.OTHER_KV_FORMAT
    disk.close()


def test_a_model_of_checkpoints_names_the_change_that_sent_it_back() -> None:
    core, _, _ = make_core(runner=StatefulRunner())
    ask(core, "a", prompt(1, 700))
    miss = ask(core, "a", changed_at(prompt(1, 750), 650))
    assert (miss.cause, miss.part) == (MissCause.CHANGED_TEXT, "message 1 (user)")
    assert counts(miss) == (600, 0, 107, 43)  # back to the checkpoint after the system prompt


def test_a_prompt_that_is_cut_short_of_a_checkpoint_says_so() -> None:
    core, _, _ = make_core(runner=StatefulRunner())
    ask(core, "a", prompt(1, 700))
    miss = ask(core, "a", prompt(1, 650))
    assert miss.cause is MissCause.NO_CHECKPOINT
    assert miss.words.startswith("no checkpoint after token 600: 49 tokens")


def test_a_model_whose_caches_are_not_kept_knows_what_a_prompt_repeats() -> None:
    agent = Agent("a", num_turns=1, prompt_token_ids=tuple(prompt(1, 700)))
    assert repeated_prompt(agent, changed_at(prompt(1, 900), 400)).num_tokens == 400


def test_a_spoilt_cache_is_the_cause_of_what_it_cost(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path)
    ask_disk(disk, "a", prompt(1, 700))
    block = disk.core.agents.get("a").block_table[1]
    assert isinstance(block.payload, tuple)
    disk.core.agents.standing.drop_all()
    block.payload = (NOT_FINITE, *block.payload[1:])
    miss = ask_disk(disk, "a", prompt(1, 700))
    assert miss.cause is MissCause.DISTRUSTED
    assert counts(miss) == (0, 0, 699, 1)
    disk.close()


def test_a_turn_that_ends_before_it_began_leaves_the_last_explanation() -> None:
    core, _, _ = make_core()
    ask(core, "a", prompt(1, 700))
    miss = ask(core, "a", changed_at(prompt(1, 750), 300))
    submit(core, "a", prompt(3, 100))
    core.abort_all()
    assert row_of(core, "a").miss == miss


def test_a_row_tells_what_is_being_read_and_how_long_it_takes(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path)
    for agent in ("a", "b"):
        ask_disk(disk, agent, prompt(ord(agent), 700))
        disk.await_saved(agent)
        disk.core.actions.evict(agent)

    submit(disk.core, "a", prompt(ord("a"), 700))
    reading = row_of(disk.core, "a")
    assert (reading.status, reading.num_restoring_tokens) == (AgentStatus.RESTORING, 707)
    assert reading.eta_s is None  # nothing was measured yet
    disk.run()
    assert row_of(disk.core, "a").num_restoring_tokens == 0

    warmed: list[int] = []
    disk.core.actions.warm("b", warmed.append)
    reading = row_of(disk.core, "b")
    assert (reading.status, reading.num_restoring_tokens) == (AgentStatus.RESTORING, 707)
    assert reading.eta_s is not None
    while not warmed:
        disk.do_posted(0.05)
    assert row_of(disk.core, "b").status is AgentStatus.IDLE
    disk.close()


def test_a_warm_that_has_nothing_to_bring_says_which_way(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path)
    ask_disk(disk, "a", prompt(1, 700))
    disk.await_saved("a")
    with pytest.raises(NotOnDiskError, match="all of 'a' is in memory already"):
        disk.core.actions.warm("a", lambda _: None)
    disk.close()

    core, _, _ = make_core()
    ask(core, "a", prompt(1, 700))
    core.actions.evict("a")
    with pytest.raises(NotOnDiskError, match="nothing of 'a' is on disk"):
        core.actions.warm("a", lambda _: None)
