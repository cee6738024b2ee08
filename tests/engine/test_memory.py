"""Whether there is memory for more: the decision alone, on readings that are made up."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.memory import (
    TARGET_SHARE,
    MemoryLimits,
    MemoryReading,
    MemoryWatch,
    PoolLoad,
    fitting_budget,
)

MB = 1 << 20
GB = 1 << 30
BLOCK_BYTES = 10 * MB
SHARED = MemoryLimits(10 * GB)
OWN = MemoryLimits(10 * GB, host_bytes=4 * GB)


def reading(
    used: int, cache: int = 0, peak: int = 0, footprint: int | None = None
) -> MemoryReading:
    """Live arrays and all else of a process whose device shares the machine's memory."""
    whole = used + cache if footprint is None else footprint
    return MemoryReading(used, cache, peak_bytes=used + peak, footprint_bytes=whole)


def withheld(watch: MemoryWatch, now: MemoryReading, load: PoolLoad) -> int:
    return watch.judge(now, load).num_withheld_blocks


def test_with_room_nothing_is_withheld() -> None:
    watch = MemoryWatch(SHARED, BLOCK_BYTES)
    verdict = watch.judge(reading(2 * GB), PoolLoad(num_total_blocks=200, num_used_blocks=50))
    assert verdict.num_withheld_blocks == 0
    assert not verdict.gives_back


def test_weights_and_all_else_are_counted_by_what_the_process_takes() -> None:
    # 7.5 GB beside an empty pool leave 1.5 GB below the target: 153 blocks of 10 MB.
    watch = MemoryWatch(SHARED, BLOCK_BYTES)
    now = reading(5 * GB, footprint=int(7.5 * GB))
    assert withheld(watch, now, PoolLoad(500, 0)) == 500 - 153


def test_blocks_waiting_for_the_disk_and_whatever_else_is_in_the_footprint_count() -> None:
    lean, burdened = reading(8 * GB), reading(8 * GB, footprint=8 * GB + 300 * MB)
    load = PoolLoad(500, 300)
    num_more = withheld(MemoryWatch(SHARED, BLOCK_BYTES), burdened, load) - withheld(
        MemoryWatch(SHARED, BLOCK_BYTES), lean, load
    )
    assert num_more == 30


def test_freed_buffers_are_to_be_given_back_when_memory_is_high() -> None:
    watch = MemoryWatch(SHARED, BLOCK_BYTES)
    load = PoolLoad(100, 100)
    assert not watch.judge(reading(6 * GB, cache=1 * GB), load).gives_back
    assert watch.judge(reading(6 * GB, cache=3 * GB), load).gives_back


def test_freed_buffers_serve_the_next_step_first() -> None:
    load = PoolLoad(100, 40)
    freed = withheld(MemoryWatch(SHARED, BLOCK_BYTES), reading(8 * GB, 500 * MB, 500 * MB), load)
    fresh = withheld(MemoryWatch(SHARED, BLOCK_BYTES), reading(8 * GB, 0, 500 * MB), load)
    assert freed == fresh


def test_what_is_paid_for_and_not_filled_yet_is_kept_room_for() -> None:
    load, busy = PoolLoad(100, 60), PoolLoad(100, 60, num_unfilled_blocks=40)
    now = reading(int(8.6 * GB))
    assert withheld(MemoryWatch(SHARED, BLOCK_BYTES), now, load) == 0
    assert withheld(MemoryWatch(SHARED, BLOCK_BYTES), now, busy) == 40


def test_what_computing_needs_for_a_moment_is_kept_room_for_and_forgotten_slowly() -> None:
    watch = MemoryWatch(SHARED, BLOCK_BYTES)
    load = PoolLoad(100, 0)
    assert withheld(watch, reading(8 * GB), load) == 0
    at_peak = withheld(watch, reading(8 * GB, peak=800 * MB), load)
    assert at_peak == 100 - 22
    soon = withheld(watch, reading(8 * GB), load)
    assert at_peak - 1 <= soon <= at_peak
    for _ in range(500):
        later = withheld(watch, reading(8 * GB), load)
    assert later == 0


def test_noise_does_not_grow_the_pool_and_real_room_does() -> None:
    watch = MemoryWatch(SHARED, BLOCK_BYTES)
    load = PoolLoad(100, 100)
    first = withheld(watch, reading(int(9.3 * GB)), load)
    assert first > 0
    assert withheld(watch, reading(int(9.3 * GB) - 100 * MB), load) == first
    assert withheld(watch, reading(int(9.3 * GB) - 250 * MB), load) < first
    assert withheld(watch, reading(8 * GB), load) == 0


def test_a_full_host_beside_a_device_of_its_own_stops_growth() -> None:
    watch = MemoryWatch(OWN, BLOCK_BYTES)
    load = PoolLoad(100, 40)
    assert withheld(watch, reading(2 * GB, footprint=1 * GB), load) == 0
    full = watch.judge(reading(2 * GB, footprint=int(3.9 * GB)), load)
    assert (full.num_withheld_blocks, full.gives_back) == (60, True)


def test_a_device_of_its_own_does_not_mind_what_the_host_takes() -> None:
    watch = MemoryWatch(MemoryLimits(2 * GB, host_bytes=64 * GB), BLOCK_BYTES)
    assert withheld(watch, reading(1 * GB, footprint=30 * GB), PoolLoad(50, 10)) == 0


@pytest.mark.parametrize(
    ("asked", "used", "fitting"),
    [
        (2 * GB, 3 * GB, 2 * GB),
        (8 * GB, 3 * GB, 6 * GB),
        (1 * GB, 9 * GB, 0),
        (1 * GB, 30 * GB, 0),
    ],
)
def test_a_budget_is_cut_to_what_the_model_leaves(asked: int, used: int, fitting: int) -> None:
    assert fitting_budget(asked, reading(used), SHARED) == fitting


def test_freed_buffers_do_not_cost_a_budget() -> None:
    assert fitting_budget(4 * GB, reading(3 * GB, cache=5 * GB), SHARED) == 4 * GB


@dataclass
class Process:
    """A process that holds what the pool has given out, and other things.

    Attributes:
        other_bytes: Weights, libraries, blocks on their way to the disk.
        num_used: Blocks in use.
        cache_bytes: Freed buffers.
    """

    other_bytes: int
    num_used: int = 0
    cache_bytes: int = 0

    def read(self, peak: int = 0) -> MemoryReading:
        blocks = self.num_used * BLOCK_BYTES
        arrays = blocks + self.other_bytes // 2
        return MemoryReading(
            arrays, self.cache_bytes, arrays + peak, blocks + self.other_bytes + self.cache_bytes
        )


NUM_TOTAL = 900
steps = st.lists(
    st.tuples(
        st.integers(-200, 200),  # blocks that are wanted, or let go
        st.integers(0, 6 * GB),  # what else the process takes now
        st.integers(0, 2 * GB),  # freed buffers
        st.integers(0, 500 * MB),  # what computing needed for a moment
    ),
    max_size=30,
)


@given(steps)
def test_whoever_keeps_to_the_verdict_stays_inside_the_limit(
    story: list[tuple[int, int, int, int]],
) -> None:
    """However all else comes and goes, blocks never push the process past the limit."""
    watch = MemoryWatch(SHARED, BLOCK_BYTES)
    process = Process(2 * GB)
    for num_wanted, other_bytes, cache_bytes, peak in story:
        process.other_bytes, process.cache_bytes = other_bytes, cache_bytes
        load = PoolLoad(NUM_TOTAL, process.num_used)
        verdict = watch.judge(process.read(peak), load)
        assert 0 <= verdict.num_withheld_blocks <= NUM_TOTAL
        if verdict.gives_back:
            process.cache_bytes = 0
            verdict = watch.judge(process.read(peak), load)
        capacity = NUM_TOTAL - verdict.num_withheld_blocks
        # Relief takes what is over; admission then takes no more than there is.
        process.num_used = max(0, min(process.num_used + num_wanted, capacity))
        if process.num_used > 0:
            target_bytes = TARGET_SHARE * SHARED.device_bytes
            assert process.read().footprint_bytes + peak <= target_bytes + process.cache_bytes


@given(st.integers(0, 12 * GB), st.integers(0, NUM_TOTAL), st.integers(0, 300))
def test_more_in_use_never_leaves_more_room(used: int, num_used: int, more_mb: int) -> None:
    load = PoolLoad(NUM_TOTAL, num_used)
    less = withheld(MemoryWatch(SHARED, BLOCK_BYTES), reading(used), load)
    more = withheld(MemoryWatch(SHARED, BLOCK_BYTES), reading(used + more_mb * MB), load)
    assert more >= less
