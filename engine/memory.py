"""Whether there is memory for more: decided from readings, not from our own sum alone.

Pure: readings are passed in, nothing is read, freed or evicted here.
"""

from __future__ import annotations

from dataclasses import dataclass

TARGET_SHARE = 0.9
"""Share of the limit that caches may fill; the rest is for what no reading saw coming."""
HIGH_SHARE = 0.8
"""Share of the limit from which on freed buffers are given back to the system."""
SLACK_SHARE = 0.02
"""Share of the limit by which room must have grown before the cache may grow with it."""
TRANSIENT_MEMORY = 0.99
"""Weight of the past in the largest passing need seen."""


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """What may be used.

    Attributes:
        device_bytes: For weights, caches and what computing needs; where the device shares the
            machine's memory, for the whole process.
        host_bytes: For the process where the device has memory of its own; 0 where it has not.
    """

    device_bytes: int
    host_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory in use at one moment.

    Attributes:
        active_bytes: Live arrays: weights, blocks, the caches of running sequences.
        cache_bytes: Buffers of arrays that are gone, kept for the next ones.
        peak_bytes: The most that live arrays took at once since the reading before.
        footprint_bytes: The whole process: all of the above where the device shares the machine's
            memory, and in any case blocks on their way to the disk, Python and its libraries.
    """

    active_bytes: int = 0
    cache_bytes: int = 0
    peak_bytes: int = 0
    footprint_bytes: int = 0

    def used_bytes(self, limits: MemoryLimits) -> int:
        """What counts against the device's limit."""
        arrays = self.active_bytes + self.cache_bytes
        return arrays if limits.host_bytes else max(self.footprint_bytes, arrays)


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What the pool has given out.

    Attributes:
        num_total_blocks: Its size.
        num_used_blocks: Blocks that are not free.
        num_unfilled_blocks: Those of them that running sequences have paid for and not filled yet.
    """

    num_total_blocks: int
    num_used_blocks: int
    num_unfilled_blocks: int = 0


@dataclass(frozen=True, slots=True)
class MemoryVerdict:
    """What is to be done about memory.

    Attributes:
        gives_back: Whether freed buffers should be given back to the system, and memory be judged
            again before anybody loses a cache.
        num_withheld_blocks: Blocks of the pool that must stay free; more than are free now where
            some have to be taken away from somebody.
    """

    gives_back: bool
    num_withheld_blocks: int


class MemoryWatch:
    """Decides how much of the pool there is memory for.

    The pool's own sum is taken for what it says about the pool. Everything else (weights, what
    computing needs, blocks waiting for the disk, fragments) is what the reading has beyond it.
    """

    def __init__(self, limits: MemoryLimits, block_bytes: int) -> None:
        """Starts with nothing withheld.

        Args:
            limits: What may be used.
            block_bytes: Bytes of one block.
        """
        self.limits = limits
        self._block_bytes = block_bytes
        self._transient_bytes = 0.0
        self._num_withheld = 0

    def judge(self, reading: MemoryReading, load: PoolLoad) -> MemoryVerdict:
        """What a reading means for the pool.

        Args:
            reading: Memory in use now.
            load: What of the pool is in use now.
        """
        passing = float(max(0, reading.peak_bytes - reading.active_bytes))
        self._transient_bytes = max(passing, TRANSIENT_MEMORY * self._transient_bytes)
        used_bytes = reading.used_bytes(self.limits)
        # To come without anybody asking again: blocks that are paid for, and the next step's own
        # needs, which freed buffers serve first.
        passing_bytes = max(0, int(self._transient_bytes) - reading.cache_bytes)
        due_bytes = load.num_unfilled_blocks * self._block_bytes + passing_bytes
        limit = self.limits.device_bytes
        room_bytes = int(TARGET_SHARE * limit) - used_bytes - due_bytes
        capacity = load.num_used_blocks + room_bytes // self._block_bytes
        if self._is_host_full(reading):
            capacity = min(capacity, load.num_used_blocks)
        return MemoryVerdict(
            gives_back=used_bytes + due_bytes > HIGH_SHARE * limit or self._is_host_full(reading),
            num_withheld_blocks=self._withhold(load.num_total_blocks, capacity),
        )

    def _is_host_full(self, reading: MemoryReading) -> bool:
        host = self.limits.host_bytes
        return bool(host) and reading.footprint_bytes > TARGET_SHARE * host

    def _withhold(self, num_total: int, capacity: int) -> int:
        """Takes room away at once, and gives it back only when it is more than noise."""
        num_withheld = num_total - min(num_total, max(0, capacity))
        num_returned = self._num_withheld - num_withheld
        slack_bytes = SLACK_SHARE * self.limits.device_bytes
        if num_withheld == 0 or num_returned < 0 or num_returned * self._block_bytes > slack_bytes:
            self._num_withheld = num_withheld
        return self._num_withheld


def size_text(num_bytes: float) -> str:
    """A size for people."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def fitting_budget(budget_bytes: int, reading: MemoryReading, limits: MemoryLimits) -> int:
    """How much of a budget for caches fits beside what is in memory already.

    Args:
        budget_bytes: What was asked for.
        reading: Memory in use before there is any cache.
        limits: What may be used.

    Returns:
        The budget, or less; 0 where nothing fits.
    """
    settled_bytes = reading.used_bytes(limits) - reading.cache_bytes
    return max(0, min(budget_bytes, int(TARGET_SHARE * limits.device_bytes) - settled_bytes))
