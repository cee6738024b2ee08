"""No memory for a step: the turns go on from their blocks, or the youngest has to come again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import EngineCore
from engine.errors import OutOfMemoryError, PoolExhaustedError
from engine.request import FinishReason
from engine.runtime.out_of_memory import told_apart
from engine.runtime.runner import DecodeRow
from engine.telemetry import Telemetry
from tests.engine.counting_model import CountingRunner, continuation, make_core
from tests.engine.turns import Turn, check, run, submit

NO_MEMORY = "[malloc] Unable to allocate 4294967296 bytes."


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


class NarrowRunner(CountingRunner):
    """Finds no memory for some of its steps, and leaves rubbish in the caches when it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.most_rows = 100
        self.failing_steps: set[int] = set()
        self.num_steps = 0

    def prefill(self, caches: list[int], token_ids: Sequence[int]) -> None:
        self._find_memory([caches])
        super().prefill(caches, token_ids)

    def decode(self, rows: Sequence[DecodeRow]) -> list[int | None]:
        if len(rows) > self.most_rows:
            self.failing_steps.add(self.num_steps)
        self._find_memory([row.caches for row in rows])
        return super().decode(rows)

    def _find_memory(self, caches: list[Any]) -> None:
        self.num_steps += 1
        if self.num_steps - 1 in self.failing_steps:
            for cache in caches:
                cache.append(12345)
            raise OutOfMemoryError(NO_MEMORY)


def narrow_core() -> tuple[EngineCore, NarrowRunner, Telemetry]:
    runner = NarrowRunner()
    core, _, telemetry = make_core(num_blocks=64, runner=runner)
    return core, runner, telemetry


def assert_right(turn: Turn, num_tokens: int = 8) -> None:
    assert turn.token_ids == continuation(turn.prompt, num_tokens)
    assert turn.finish_reason is FinishReason.MAX_TOKENS


def is_refused(turn: Turn) -> bool:
    return isinstance(turn.deltas[-1].error, PoolExhaustedError)


@pytest.mark.parametrize("step", range(6))
def test_a_turn_survives_one_step_without_memory(step: int) -> None:
    core, runner, telemetry = narrow_core()
    runner.failing_steps = {step}
    turn = submit(core, "a", prompt(1, 700))
    run(core)
    assert_right(turn)
    check(core)
    assert [event.kind for event in telemetry.events] == ["memory"]


def test_what_was_shared_before_is_not_computed_again() -> None:
    core, runner, _ = narrow_core()
    runner.failing_steps = {4}
    turn = submit(core, "a", prompt(1, 1000))
    run(core)
    assert_right(turn)
    assert runner.num_prefilled < 1000 + 300


def test_a_turn_that_never_finds_memory_is_told_to_come_again() -> None:
    core, runner, _ = narrow_core()
    runner.failing_steps = set(range(100))
    turn = submit(core, "a", prompt(1, 700))
    run(core)
    assert is_refused(turn)
    check(core)
    assert not core.scheduler.has_work
    runner.failing_steps = set()
    again = submit(core, "a", prompt(1, 700))
    run(core)
    assert_right(again)


def test_of_a_batch_that_does_not_fit_the_youngest_is_refused() -> None:
    core, runner, _ = narrow_core()
    runner.most_rows = 2
    turns = [submit(core, f"agent-{n}", prompt(n, 300)) for n in range(4)]
    run(core)
    assert [is_refused(turn) for turn in turns] == [False, False, True, True]
    for turn in turns[:2]:
        assert_right(turn)
    check(core)


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, 60), max_size=20),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 600)), min_size=1, max_size=6),
)
def test_whenever_memory_is_short_no_token_is_wrong(
    failing_steps: set[int], turns: list[tuple[int, int]]
) -> None:
    core, runner, _ = narrow_core()
    runner.failing_steps = failing_steps
    submitted = [submit(core, f"agent-{seed}", prompt(seed, length)) for seed, length in turns]
    run(core)
    for turn in submitted:
        expected = continuation(turn.prompt, 8)
        assert turn.token_ids == (expected[: len(turn.token_ids)] if is_refused(turn) else expected)
    check(core)
    assert not core.scheduler.has_work


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(NO_MEMORY),
        RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is greater than"),
        RuntimeError("cudaMallocAsync(&data, size) failed: out of memory"),
    ],
)
def test_a_lack_of_memory_is_told_from_other_failures(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError), told_apart():
        raise error


@pytest.mark.parametrize("error", [RuntimeError("[matmul] shapes"), ValueError("allocate")])
def test_other_failures_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)), told_apart():
        raise error
