"""Where the time of one turn goes."""

from __future__ import annotations

from enum import IntEnum

from engine.snapshot import TurnTimes


class Phase(IntEnum):
    """What a turn spends its time on."""

    QUEUE = 0
    RESTORE = 1
    PREFILL = 2
    DECODE = 3


class TurnTimer:
    """Adds up the time that one turn spends in each phase, however often it comes back to one.

    A turn that has to make room goes back to the queue, and one that is computed again prefills
    twice.
    """

    def __init__(self, now_s: float) -> None:
        """Starts in the queue.

        Args:
            now_s: Monotonic seconds.
        """
        self._phase = Phase.QUEUE
        self._since_s = now_s
        self._spent_s = [0.0] * len(Phase)

    def enter(self, phase: Phase, now_s: float) -> None:
        """Begins a phase, and ends the one before; the same phase goes on."""
        if phase is self._phase:
            return
        self._spent_s[self._phase] += now_s - self._since_s
        self._phase, self._since_s = phase, now_s

    def times(self, now_s: float) -> TurnTimes:
        """What was spent up to now."""
        spent_s = list(self._spent_s)
        spent_s[self._phase] += now_s - self._since_s
        queue_s, restore_s, prefill_s, decode_s = spent_s
        return TurnTimes(
            queue_s=queue_s, restore_s=restore_s, prefill_s=prefill_s, decode_s=decode_s
        )
