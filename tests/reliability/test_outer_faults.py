"""Faults around a real engine: its disk, its clock, its memory. Answers stay what they were."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.cache.disk import durable
from engine.engine import Engine
from engine.request import FinishReason
from engine.runtime.runner import ModelRunner
from tests.engine.real_engine import TIMEOUT_S, ask, await_saved, evict, running_engine

PROMPT = "The quick brown fox jumps over the lazy dog near the river bank. " * 30
YEAR_S = 365 * 86400.0


class WallClock:
    """The time of day, which somebody may set."""

    def __init__(self, time_of_day: Callable[[], float]) -> None:
        self._time_of_day = time_of_day
        self.offset_s = 0.0

    def __call__(self) -> float:
        return self._time_of_day() + self.offset_s


@pytest.fixture(scope="module")
def clock() -> Iterator[WallClock]:
    clock = WallClock(time.time)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", clock)
        yield clock


@pytest.fixture(scope="module")
def engine(
    clock: WallClock, bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    with running_engine(bundled_models_dir, tmp_path_factory.mktemp("home")) as engine:
        yield engine


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_nothing_costs_no_turn(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    agent = f"disk-{number}"
    prompt = f"{number} {PROMPT}"
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", refuse)
        first = ask(engine, agent, prompt)
        assert first.last.finish_reason is not FinishReason.ERROR
        until(lambda: not engine.snapshot.disk.is_on)
        assert os.strerror(number) in engine.snapshot.disk.reason_off
        assert ask(engine, agent, prompt).token_ids == first.token_ids
    until(lambda: engine.snapshot.disk.is_on)
    await_saved(engine)
    evict(engine, agent)
    again = ask(engine, agent, prompt)
    assert again.token_ids == first.token_ids
    assert again.num_cached_tokens >= 256, "what was refused was offered again"


def test_a_slow_disk_holds_nobody_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = durable.sync

    def sync_slowly(*arguments: Any) -> None:
        time.sleep(1.0)
        sync(*arguments)

    monkeypatch.setattr(durable, "sync", sync_slowly)
    answer = ask(engine, "slow", f"slow {PROMPT}")
    assert answer.last.finish_reason is not FinishReason.ERROR
    assert engine.snapshot.disk.num_pending > 0, "the turn ended before its blocks were written"
    monkeypatch.undo()
    await_saved(engine)


@pytest.mark.parametrize("jump_s", [-30 * YEAR_S, 30 * YEAR_S])
def test_a_clock_that_jumps_changes_no_turn(
    engine: Engine, clock: WallClock, jump_s: float
) -> None:
    agent = f"clock {jump_s:.0f}"
    prompt = f"{agent} {PROMPT}"
    first = ask(engine, agent, prompt)
    await_saved(engine)
    try:
        clock.offset_s = jump_s
        second = ask(engine, agent, prompt)
        assert second.token_ids == first.token_ids
        assert second.num_cached_tokens >= 256
        assert second.last.usage.ttft_s is not None
        assert 0 <= second.last.usage.ttft_s < TIMEOUT_S
        await_saved(engine)
        evict(engine, agent)
        assert ask(engine, agent, prompt).token_ids == first.token_ids
    finally:
        clock.offset_s = 0.0


@pytest.mark.parametrize("failing_call", [0, 5])
def test_a_step_without_memory_costs_no_turn(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    first = ask(engine, "memory", PROMPT)
    calls = iter(range(10_000))
    logits = ModelRunner._logits

    def sometimes(runner: ModelRunner, *arguments: Sequence[Any]) -> Any:
        if next(calls) == failing_call:
            raise RuntimeError("[malloc] Unable to allocate 4294967296 bytes.")
        return logits(runner, *arguments)

    monkeypatch.setattr(ModelRunner, "_logits", sometimes)
    second = ask(engine, "memory", PROMPT)
    assert second.token_ids == first.token_ids
    assert next(calls) > failing_call, "the fault was never reached"
    assert any("no memory for a step" in event.text for event in engine.snapshot.events)
