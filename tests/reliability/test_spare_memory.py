"""No memory to restore, cut or copy a cache: that costs reuse, not a turn, and not the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import OutOfMemoryError, PoolExhaustedError
from engine.request import FinishReason
from engine.runtime import kv, kv_bytes
from engine.runtime.runner import ModelRunner
from engine.snapshot import MissCause
from tests.engine.counting_model import NOT_FINITE, continuation, make_core
from tests.engine.disk_core import DiskCore
from tests.engine.real_engine import ask, await_saved, evict, running_engine
from tests.engine.scarce_model import (
    MOVES,
    NO_MEMORY,
    ScarceRunner,
    ScarceStatefulRunner,
)
from tests.engine.turns import Turn, check, run, submit


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def assert_right(turn: Turn, num_tokens: int = 8) -> None:
    assert turn.token_ids == continuation(turn.prompt, num_tokens)
    assert turn.finish_reason is FinishReason.MAX_TOKENS


@contextmanager
def disk_core(folder: Path, runner: ScarceRunner | None = None) -> Iterator[DiskCore]:
    disk = DiskCore(folder, runner=runner or ScarceRunner())
    try:
        yield disk
    finally:
        disk.close()


def ask_core(disk: DiskCore, agent: str, tokens: list[int]) -> Turn:
    turn = submit(disk.core, agent, tokens)
    disk.run()
    assert_right(turn)
    check(disk.core)
    return turn


def memory_events(disk: DiskCore) -> list[str]:
    return [event.text for event in disk.telemetry.events if event.kind == "memory"]


def test_a_cache_that_cannot_be_restored_is_computed_again() -> None:
    runner = ScarceRunner()
    core, _, telemetry = make_core(runner=runner)
    tokens = prompt(1, 200)  # too short to be left standing whole
    submit(core, "a", tokens)
    run(core)
    runner.failing_kinds = {"restore"}
    again = submit(core, "a", tokens)
    run(core)
    assert_right(again)
    check(core)
    assert again.num_cached_tokens == 0
    miss = again.deltas[-1].usage.miss
    assert (miss.cause, miss.num_lost_tokens) == (MissCause.NO_ROOM, 199)
    (event,) = (event for event in telemetry.events if event.kind == "memory")
    assert event.text.startswith("no memory to restore 199 tokens of a")


def test_memory_that_was_given_back_may_be_enough() -> None:
    runner = ScarceRunner()
    core, _, telemetry = make_core(runner=runner)
    submit(core, "a", prompt(1, 200))
    run(core)
    runner.failing_moves = {len(runner.moves)}
    again = submit(core, "a", prompt(1, 200))
    run(core)
    assert_right(again)
    assert again.num_cached_tokens == 199
    assert not [event for event in telemetry.events if event.kind == "memory"]


@pytest.mark.parametrize(("kind", "num_kept"), [("cut_block", 0), ("cut_tail", 512)])
def test_what_cannot_be_cut_is_not_kept(kind: str, num_kept: int) -> None:
    runner = ScarceRunner()
    core, _, telemetry = make_core(runner=runner)
    runner.failing_kinds = {kind}
    turn = submit(core, "a", prompt(1, 700))
    run(core)
    assert_right(turn)
    check(core)
    assert len(core.agents.get("a").token_ids) == num_kept
    assert "memory" in [event.kind for event in telemetry.events]
    runner.failing_kinds = set()
    again = submit(core, "a", prompt(1, 700))
    run(core)
    assert_right(again)
    assert again.num_cached_tokens == num_kept


def test_an_agent_keeps_what_it_had_where_less_can_be_cut() -> None:
    runner = ScarceRunner()
    core, _, _ = make_core(runner=runner)
    first = submit(core, "a", prompt(1, 700))
    run(core)
    had = core.agents.get("a").token_ids
    runner.failing_kinds = {"cut_block", "cut_tail"}
    longer = [*first.prompt, *first.token_ids, *prompt(2, 40)]
    turn = submit(core, "a", longer)
    run(core)
    assert_right(turn)
    check(core)
    assert core.agents.get("a").token_ids == had


def test_a_block_of_others_that_cannot_be_taken_over_sends_the_turn_back_once() -> None:
    runner = ScarceRunner()
    core, _, telemetry = make_core(runner=runner)
    runner.failing_kinds = {"append_block"}
    shared = prompt(1, 1000)
    turns = [submit(core, name, [*shared, seed]) for seed, name in enumerate("ab")]
    while "append_block" not in runner.moves:
        core.step()
    runner.failing_kinds = set()
    run(core)
    for turn in turns:
        assert_right(turn)
    check(core)
    assert [event.kind for event in telemetry.events].count("memory") == 1


def test_what_cannot_be_copied_for_the_disk_stays_in_memory(tmp_path: Path) -> None:
    runner = ScarceRunner()
    with disk_core(tmp_path, runner) as disk:
        runner.failing_kinds = {"to_bytes"}
        ask_core(disk, "a", prompt(1, 700))
        assert disk.persistence.tier.stats.num_blocks == 0
        assert memory_events(disk)
        runner.failing_kinds = set()
        assert ask_core(disk, "a", prompt(1, 700)).num_cached_tokens == 699
        disk.await_saved("a")


def test_what_cannot_be_taken_from_disk_is_computed(tmp_path: Path) -> None:
    runner = ScarceRunner()
    with disk_core(tmp_path, runner) as disk:
        ask_core(disk, "a", prompt(1, 700))
        disk.await_saved("a")
        disk.core.actions.evict("a")
        runner.failing_kinds = {"from_bytes"}
        assert ask_core(disk, "a", prompt(1, 700)).num_cached_tokens == 0
        assert memory_events(disk)


def test_where_nothing_can_be_looked_at_all_of_a_suspect_is_forgotten(tmp_path: Path) -> None:
    runner = ScarceRunner()
    with disk_core(tmp_path, runner) as disk:
        tokens = prompt(1, 700)
        ask_core(disk, "a", tokens)
        disk.await_saved("a")
        for block in disk.core.agents.get("a").block_table[:1]:
            block.payload = (NOT_FINITE, *list(block.payload)[1:])  # type: ignore[call-overload]
        disk.core.agents.standing.drop_all()
        runner.failing_kinds = {"to_bytes"}
        turn = submit(disk.core, "a", tokens)
        disk.run()
        assert_right(turn)
        assert disk.core.pool.lookup(disk.core.agents.get("a").block_table[0].block_hash or b"")
        check(disk.core)


moves = st.sets(st.integers(0, 80), max_size=30)
kinds = st.sets(st.sampled_from(MOVES))
turns_of_four = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 900)), min_size=1, max_size=8)


@pytest.mark.parametrize("make_runner", [ScarceRunner, ScarceStatefulRunner])
@settings(max_examples=50, deadline=None)
@given(failing_moves=moves, failing_kinds=kinds, turns=turns_of_four, num_blocks=st.integers(8, 40))
def test_whatever_move_finds_no_memory_no_token_is_wrong(
    make_runner: Callable[[], ScarceRunner],
    failing_moves: set[int],
    failing_kinds: set[str],
    turns: list[tuple[int, int]],
    num_blocks: int,
) -> None:
    runner = make_runner()
    with TemporaryDirectory() as folder:
        disk = DiskCore(Path(folder), runner=runner, num_blocks=num_blocks)
        runner.failing_moves = failing_moves
        submitted = []
        for number, (seed, length) in enumerate(turns):
            if number == len(turns) // 2:
                runner.failing_kinds = failing_kinds
            submitted.append(submit(disk.core, f"agent-{seed}", prompt(seed, length)))
            if number % 2:
                disk.run()
        disk.run()
        assert all(map(is_right_or_refused, submitted))
        check(disk.core)
        assert not disk.core.scheduler.has_work
        disk.close()


def is_right_or_refused(turn: Turn) -> bool:
    if isinstance(turn.deltas[-1].error, PoolExhaustedError):
        return True
    return turn.token_ids == continuation(turn.prompt, 8)


def no_memory(*_args: Any, **_options: Any) -> Any:
    raise RuntimeError(NO_MEMORY)


@pytest.mark.parametrize(
    ("module", "name", "move"),
    [
        (kv, "gather", lambda runner: runner.restore([()], 1, 1)),
        (kv, "append", lambda runner: runner.append_block([], ())),
        (kv, "trim", lambda runner: runner.trim([], 0)),
        (kv, "cut", lambda runner: runner.cut_block([], 0)),
        (kv, "checkpoint", lambda runner: runner.cut_tail([], 1)),
        (kv_bytes, "to_bytes", lambda runner: runner.to_bytes(())),
        (kv_bytes, "from_bytes", lambda runner: runner.from_bytes((), None)),
    ],
)
def test_the_runner_tells_a_lack_of_memory_of_every_move(
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    move: Callable[[ModelRunner], object],
) -> None:
    runner = ModelRunner.__new__(ModelRunner)
    runner._layout = ()
    monkeypatch.setattr(module, name, no_memory)
    with pytest.raises(OutOfMemoryError):
        move(runner)


def test_a_real_model_answers_the_same_without_memory_to_restore_or_cut(
    bundled_models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The quick brown fox jumps over the lazy dog near the river bank. " * 30 + "Go on."
    with running_engine(bundled_models_dir, tmp_path) as engine:
        expected = ask(engine, "a", text)
        await_saved(engine)
        evict(engine, "a")
        with monkeypatch.context() as patch:
            for module, name in ((kv, "gather"), (kv, "cut"), (kv_bytes, "from_bytes")):
                patch.setattr(module, name, no_memory)
            without = ask(engine, "a", text)
        after = ask(engine, "b", text)
        kinds = [event.kind for event in engine.snapshot.events]
    assert expected.token_ids == without.token_ids == after.token_ids
    assert without.num_cached_tokens == 0
    assert "memory" in kinds
