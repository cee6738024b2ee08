"""Caches on disk: written behind, read ahead, right after evictions and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import AgentBusyError, DataFolderInUseError, InvalidRequestError, NotOnDiskError
from engine.request import FinishReason
from tests.engine.counting_model import continuation
from tests.engine.disk_core import DiskCore
from tests.engine.expected_map import check_map
from tests.engine.turns import Turn, check, submit


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def assert_right(turn: Turn, num_tokens: int = 8) -> None:
    assert turn.token_ids == continuation(turn.prompt, num_tokens)
    assert turn.finish_reason is FinishReason.MAX_TOKENS


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCore]:
    disk = DiskCore(tmp_path)
    yield disk
    disk.close()


def ask(disk: DiskCore, agent: str | None, tokens: list[int]) -> Turn:
    turn = submit(disk.core, agent, tokens)
    disk.run()
    assert_right(turn)
    check(disk.core)
    return turn


def test_an_evicted_agent_is_read_back_instead_of_recomputed(disk: DiskCore) -> None:
    tokens = prompt(1, 700)
    ask(disk, "a", tokens)
    disk.await_saved("a")
    disk.core.actions.evict("a")
    disk.runner.num_prefilled = 0

    again = ask(disk, "a", tokens)

    # Two full blocks, and all of the tail but the last token, whose logits are needed.
    assert again.num_cached_tokens == 699
    assert disk.runner.num_prefilled == 0
    restored = [e.text for e in disk.telemetry.events if e.kind == "restore"]
    assert restored[0].startswith("a: 707 tokens from disk")


def test_a_core_knows_whether_there_is_something_to_write(disk: DiskCore) -> None:
    assert not disk.core.is_writing
    submit(disk.core, "a", prompt(1, 700))
    saw_writing = False
    while disk.core.scheduler.has_work:
        disk.core.step()
        saw_writing = saw_writing or disk.core.is_writing
    assert saw_writing or disk.core.is_writing
    disk.await_saved("a")
    assert not disk.core.is_writing


def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    first_run = DiskCore(tmp_path)
    tokens = prompt(1, 700)
    first = ask(first_run, "a", tokens)
    first_run.core.actions.pin("a", True)
    first_run.close()

    disk = DiskCore(tmp_path)
    agent = disk.core.agents.get("a")
    assert agent.pinned
    assert agent.num_turns == 1
    assert agent.last_turn.num_prompt_tokens == 700
    assert disk.persistence.warm_bytes(agent) > 0
    longer = [*tokens, *first.token_ids, *prompt(2, 40)]
    second = ask(disk, "a", longer)
    assert second.num_cached_tokens == 707
    assert disk.runner.num_prefilled == len(longer) - 1 - 707
    disk.close()


def test_a_conversation_without_an_id_is_recognised_after_a_restart(tmp_path: Path) -> None:
    first_run = DiskCore(tmp_path)
    tokens = prompt(1, 300)
    first = ask(first_run, None, tokens)
    first_run.close()

    disk = DiskCore(tmp_path)
    second = ask(disk, None, [*tokens, *first.token_ids, 5, 6])
    assert second.deltas[0].agent_id == first.deltas[0].agent_id
    disk.close()


def test_an_agent_of_one_turn_that_was_left_behind_is_removed_at_the_start(tmp_path: Path) -> None:
    tokens = prompt(1, 700)
    before = DiskCore(tmp_path)
    ask(before, "a", tokens)
    submit(before.core, "a/choice-2", [*tokens, *prompt(2, 600)], is_short_lived=True)
    before.run()
    before.await_saved("a/choice-2")
    num_blocks = before.persistence.tier.stats.num_blocks
    before.close()

    disk = DiskCore(tmp_path)
    assert [agent.agent_id for agent in disk.core.agents] == ["a"]
    assert [e.text for e in disk.telemetry.events if e.kind == "disk"] == [
        "1 of an unfinished request's agents removed"
    ]
    # What it shared with the other stays.
    assert ask(disk, "a", tokens).num_cached_tokens == 699
    disk.close()
    assert disk.persistence.tier.stats.num_blocks < num_blocks


def test_an_agent_that_goes_on_is_there_for_more_than_one_turn(tmp_path: Path) -> None:
    before = DiskCore(tmp_path)
    for is_short_lived in (True, False):
        submit(before.core, "a", prompt(1, 700), is_short_lived=is_short_lived)
        before.run()
    before.await_saved("a")
    before.close()

    disk = DiskCore(tmp_path)
    assert [agent.agent_id for agent in disk.core.agents] == ["a"]
    disk.close()


def test_agents_that_share_a_prefix_store_it_once_on_disk_too(disk: DiskCore) -> None:
    shared = prompt(1, 600)
    for number in range(4):
        ask(disk, f"agent-{number}", [*shared, *prompt(number + 5, 20)])
    for number in range(4):
        disk.await_saved(f"agent-{number}")
    # Two full blocks once, and a tail of each.
    assert disk.persistence.tier.stats.num_blocks == 2 + 4


def test_another_agent_reads_a_prefix_that_only_the_disk_has(disk: DiskCore) -> None:
    ask(disk, "a", prompt(1, 600))
    disk.await_saved("a")
    disk.core.actions.evict("a")
    turn = ask(disk, "b", [*prompt(1, 600), *prompt(7, 50)])
    assert turn.num_cached_tokens == 512
    assert disk.core.agents.get("b").last_turn.num_restored_tokens == 512


def test_a_prompt_that_changed_reads_no_more_than_matches(disk: DiskCore) -> None:
    tokens = prompt(1, 700)
    ask(disk, "a", tokens)
    disk.await_saved("a")
    disk.core.actions.evict("a")
    changed = [*tokens[:400], 999, *tokens[401:]]
    turn = ask(disk, "a", changed)
    assert turn.num_cached_tokens == 400


def test_another_model_finds_nothing(tmp_path: Path) -> None:
    first_run = DiskCore(tmp_path)
    ask(first_run, "a", prompt(1, 600))
    first_run.close()
    disk = DiskCore(tmp_path, fingerprint="another")
    assert len(disk.core.agents) == 0
    turn = ask(disk, "a", prompt(1, 600))
    assert turn.num_cached_tokens == 0
    disk.close()


def test_damaged_files_are_recomputed_and_said(tmp_path: Path) -> None:
    first_run = DiskCore(tmp_path)
    tokens = prompt(1, 700)
    ask(first_run, "a", tokens)
    first_run.close()
    for path in sorted((tmp_path / "kv").rglob("*.safetensors")):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    disk = DiskCore(tmp_path)
    turn = ask(disk, "a", tokens)
    assert turn.num_cached_tokens == 0
    disk.do_posted(0.2)
    assert disk.persistence.tier.stats.num_quarantined >= 1
    assert any(event.kind == "quarantine" for event in disk.telemetry.events)
    disk.close()


def test_two_processes_do_not_share_a_folder(disk: DiskCore, tmp_path: Path) -> None:
    with pytest.raises(DataFolderInUseError, match="STOKER_HOME"):
        DiskCore(tmp_path)


def test_aborting_while_the_disk_reads_leaves_nothing_behind(disk: DiskCore) -> None:
    tokens = prompt(1, 700)
    ask(disk, "a", tokens)
    disk.await_saved("a")
    disk.core.actions.evict("a")
    turn = submit(disk.core, "a", tokens)
    disk.core.abort(turn.request_id, "client went away")
    assert turn.finish_reason is FinishReason.ABORTED
    disk.do_posted(0.5)
    check(disk.core)
    assert disk.core.pool.num_referenced_blocks == 0
    ask(disk, "a", tokens)


def test_restoring_one_agent_does_not_hold_up_another(disk: DiskCore) -> None:
    ask(disk, "a", prompt(1, 700))
    disk.await_saved("a")
    disk.core.actions.evict("a")
    restoring = submit(disk.core, "a", prompt(1, 700))
    other = submit(disk.core, "b", prompt(2, 50))
    # What the disk posts is not done yet, so the first one keeps waiting.
    while other.finish_reason is None:
        disk.core.step()
    assert restoring.finish_reason is None
    disk.run()
    assert_right(restoring)
    assert_right(other)


def test_a_small_pool_restores_what_fits_and_recomputes_the_rest(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path, num_blocks=7)
    tokens = prompt(1, 1400)
    ask(disk, "a", tokens)
    disk.await_saved("a")
    disk.core.actions.evict("a")
    turn = ask(disk, "a", tokens)
    assert turn.num_cached_tokens <= 1399
    disk.close()


def test_warming_brings_everything_into_memory(disk: DiskCore) -> None:
    ask(disk, "a", prompt(1, 700))
    disk.await_saved("a")
    disk.core.actions.evict("a")
    told: list[int] = []
    disk.core.actions.warm("a", told.append)
    while not told:
        disk.do_posted(0.05)
    assert told == [707]
    assert len(disk.core.agents.get("a").token_ids) == 707
    check(disk.core)
    with pytest.raises(NotOnDiskError):
        disk.core.actions.warm("a", told.append)
    disk.runner.num_prefilled = 0
    ask(disk, "a", prompt(1, 700))
    assert disk.runner.num_prefilled == 0


def test_a_fork_starts_where_its_original_is_and_goes_its_own_way(disk: DiskCore) -> None:
    first = ask(disk, "a", prompt(1, 700))
    fork_id = disk.core.actions.fork("a", None)
    assert fork_id == "a-fork-1"
    check(disk.core)
    context = [*first.prompt, *first.token_ids]
    forked = ask(disk, fork_id, [*context, 1, 2, 3])
    original = ask(disk, "a", [*context, 4, 5, 6])
    assert forked.num_cached_tokens == original.num_cached_tokens == 707


def test_a_fork_of_an_agent_on_disk_is_on_disk(tmp_path: Path) -> None:
    first_run = DiskCore(tmp_path)
    ask(first_run, "a", prompt(1, 700))
    first_run.await_saved("a")
    first_run.core.actions.evict("a")
    first_run.core.actions.fork("a", "b")
    first_run.close()
    disk = DiskCore(tmp_path)
    turn = ask(disk, "b", prompt(1, 700))
    assert turn.num_cached_tokens == 699
    disk.close()


def test_forks_need_a_free_name_and_an_idle_original(disk: DiskCore) -> None:
    ask(disk, "a", prompt(1, 300))
    ask(disk, "b", prompt(2, 300))
    with pytest.raises(InvalidRequestError, match="already"):
        disk.core.actions.fork("a", "b")
    with pytest.raises(InvalidRequestError, match="printable"):
        disk.core.actions.fork("a", "x\n")
    submit(disk.core, "a", prompt(1, 300))
    with pytest.raises(AgentBusyError):
        disk.core.actions.fork("a", None)
    with pytest.raises(AgentBusyError):
        disk.core.actions.warm("a", lambda _: None)
    disk.run()


def test_a_disk_that_takes_nothing_costs_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    disk = DiskCore(tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "writev", full)
    tokens = prompt(1, 700)
    ask(disk, "a", tokens)
    again = ask(disk, "a", tokens)
    assert again.num_cached_tokens == 699
    for _ in range(40):
        disk.do_posted(0.05)
        if not disk.persistence.tier.stats.is_on:
            break
    assert not disk.persistence.tier.stats.is_on
    monkeypatch.undo()
    disk.close()


def test_one_that_finds_no_room_waits_for_one_that_is_being_restored(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path, num_blocks=7)
    ask(disk, "pinned", prompt(3, 600))
    ask(disk, "a", prompt(1, 300))
    disk.await_saved("a")
    disk.core.actions.evict("a")
    restoring = submit(disk.core, "a", prompt(1, 300))
    too_large = submit(disk.core, "b", prompt(2, 1400))
    disk.core.actions.pin("pinned", True)
    for _ in range(3):
        disk.core.step()
    assert too_large.finish_reason is None
    disk.run()
    assert_right(restoring)
    assert too_large.finish_reason is FinishReason.ERROR
    check(disk.core)
    disk.close()


def test_what_only_a_reading_turn_holds_is_drawn_as_its_agents(disk: DiskCore) -> None:
    tokens = prompt(1, 700)
    ask(disk, "a", tokens)
    disk.await_saved("a")
    disk.core.actions.evict("a")
    turn = submit(disk.core, "b", tokens)
    disk.do_next()
    (sequence,) = disk.core.scheduler
    assert [block.ref_count for block in sequence.restored] == [1]
    check_map(disk.core)
    disk.run()
    assert_right(turn)
