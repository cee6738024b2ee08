"""Keeps the process inside its memory: looks at real readings, and shrinks the pool to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.cache.block import blocks_for
from engine.cache.pool import BlockPool
from engine.memory import MemoryLimits, MemoryReading, MemoryWatch, PoolLoad, size_text
from engine.relief import Relief
from engine.scheduler import Scheduler
from engine.sequence import Sequence

LOOK_S = 0.25
"""Readings are taken at most this often while nothing big is about to come."""
LOOK_SOON_S = 0.02
"""And this often before something big."""
GIVE_BACK_S = 1.0
"""Freed buffers are given back this often while memory is high, and whenever a cache would go
otherwise; it costs about ten milliseconds."""

Note = Callable[[str, str, str], None]
"""Takes an event: kind, text and level."""


@dataclass(frozen=True, slots=True)
class MemoryAccess:
    """How memory is read and given back.

    Attributes:
        limits: What may be used.
        read: Memory in use now, with its peak since the last call.
        give_back: Gives freed buffers back to the system.
    """

    limits: MemoryLimits
    read: Callable[[], MemoryReading]
    give_back: Callable[[], None]


class Pressure:
    """Shrinks the pool when memory gets short, and grows it again. Belongs to the engine's thread.

    Nothing else has to know: blocks that are withheld cannot be allocated, so admission, growth
    and restores find less room, and take the same ways as with a smaller pool.
    """

    def __init__(
        self,
        access: MemoryAccess | None,
        pool: BlockPool,
        scheduler: Scheduler,
        relief: Relief,
        note: Note,
        clock: Callable[[], float],
    ) -> None:
        """Wires the parts.

        Args:
            access: Reads memory and gives it back; None trusts the pool's own sum.
            pool: What is shrunk.
            scheduler: Whose running sequences have paid for what they have not filled yet.
            relief: Takes blocks from those who lose least by it.
            note: Takes events.
            clock: Monotonic seconds.
        """
        self._access = access
        self._watch = MemoryWatch(access.limits, pool.block_bytes) if access else None
        self._pool = pool
        self._scheduler = scheduler
        self._relief = relief
        self._note = note
        self._clock = clock
        self._looked_s = float("-inf")
        self._gave_back_s = float("-inf")

    def leaves(self, num_blocks: int) -> bool:
        """Whether there is memory for so many blocks once every cache that may go is gone."""
        pool = self._pool
        if pool.num_withheld_blocks == 0:
            return True
        num_possible = pool.num_total_blocks - pool.num_withheld_blocks - pool.num_pinned_blocks
        return num_blocks <= num_possible

    def give_back(self) -> None:
        """Gives freed buffers back to the system at once: something found no memory."""
        if self._access is not None:
            self._access.give_back()

    def look(self, *, soon: bool = False) -> None:
        """Reads memory, unless that was done a moment ago, and acts on it.

        Args:
            soon: Whether something big is about to be allocated.
        """
        if self._access is None or self._watch is None:
            return
        now_s = self._clock()
        if now_s - self._looked_s < (LOOK_SOON_S if soon else LOOK_S):
            return
        self._looked_s = now_s
        reading = self._access.read()
        verdict = self._watch.judge(reading, self._load)
        is_worse = verdict.num_withheld_blocks > self._pool.num_withheld_blocks
        is_due = now_s - self._gave_back_s >= GIVE_BACK_S
        if verdict.gives_back and (is_worse or is_due):
            self._gave_back_s = now_s
            self._access.give_back()
            reading = self._access.read()
            verdict = self._watch.judge(reading, self._load)
        self._withhold(verdict.num_withheld_blocks, self._access.limits, reading)

    @property
    def _load(self) -> PoolLoad:
        num_total = self._pool.num_total_blocks
        return PoolLoad(
            num_total_blocks=num_total,
            num_used_blocks=num_total - self._pool.num_free_blocks,
            num_unfilled_blocks=sum(map(_num_unfilled, self._scheduler.running)),
        )

    def _withhold(self, num_blocks: int, limits: MemoryLimits, reading: MemoryReading) -> None:
        num_before = self._pool.num_withheld_blocks
        self._pool.withhold(num_blocks)
        if num_blocks > num_before:
            self._relief.shrink()
        if num_before == 0 and num_blocks > 0:
            used = size_text(reading.used_bytes(limits))
            rest = size_text((self._pool.num_total_blocks - num_blocks) * self._pool.block_bytes)
            text = f"{used} of {size_text(limits.device_bytes)} in use: the KV cache shrinks to "
            self._note("memory", text + rest, "warning")
        elif num_before > 0 and num_blocks == 0:
            self._note("memory", "there is room for the whole KV cache again", "info")


def _num_unfilled(sequence: Sequence) -> int:
    return max(0, len(sequence.working_blocks) - blocks_for(sequence.num_computed_tokens))
