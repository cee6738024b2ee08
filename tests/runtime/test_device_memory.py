"""Readings that move with what is held, and memory that is given back."""

from __future__ import annotations

import sys

import mlx.core as mx
import pytest

from engine.runtime.device_memory import (
    give_back_memory,
    read_memory,
    read_memory_and_peak,
)

SMALL = (3, 256, 64)
NUM_SMALL = 1000


def test_readings_move_with_what_is_held() -> None:
    before = read_memory()
    held = mx.ones((1 << 24,))
    mx.eval(held)
    after = read_memory()

    assert after.active_bytes - before.active_bytes >= held.nbytes
    # It may lie in memory that the process was given before.
    assert after.footprint_bytes >= after.active_bytes >= held.nbytes
    assert after.peak_bytes >= after.active_bytes


def test_a_peak_is_told_once() -> None:
    passing = mx.ones((1 << 24,))
    mx.eval(passing)
    num_bytes = passing.nbytes
    del passing
    first, second = read_memory_and_peak(), read_memory_and_peak()

    assert first.peak_bytes >= first.active_bytes + num_bytes
    assert second.peak_bytes < second.active_bytes + num_bytes // 2


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries give back by themselves")
def test_what_was_freed_between_what_is_held_is_given_back() -> None:
    arrays = [mx.random.normal(SMALL) for _ in range(NUM_SMALL)]
    mx.eval(arrays)
    num_bytes = arrays[0].nbytes * NUM_SMALL // 2
    # Once freed, so that the C library keeps buffers of this size in its heap from now on.
    del arrays
    arrays = [mx.random.normal(SMALL) for _ in range(NUM_SMALL)]
    mx.eval(arrays)
    del arrays[::2]
    before = read_memory().footprint_bytes
    give_back_memory()

    assert before - read_memory().footprint_bytes > num_bytes // 2
    assert len(arrays) == NUM_SMALL // 2
