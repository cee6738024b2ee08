"""How often a place becomes free, from the turns that ended lately. Pure: time is passed in."""

from __future__ import annotations

from collections import deque

NUM_GAPS = 32
"""Gaps between ends that are remembered."""
MIN_PROMISE_S = 1.0
MAX_PROMISE_S = 600.0


class TurnRate:
    """Learns the gaps between the ends of turns and promises places from them.

    Whoever is turned away is told a time. Those who are turned away one after another are told
    one after another's times: a single place that everybody was promised would turn all but one
    away again.
    """

    def __init__(self) -> None:
        """Starts with nothing measured."""
        self._gaps_s: deque[float] = deque(maxlen=NUM_GAPS)
        self._since_s: float | None = None
        self._promised_until_s = 0.0

    def begin(self, now_s: float) -> None:
        """A turn arrived. Time in which nothing was there is no gap between two ends."""
        if self._since_s is None:
            self._since_s = now_s

    def end(self, now_s: float, *, is_idle: bool) -> None:
        """A turn ended.

        Args:
            now_s: When.
            is_idle: Whether it was the last one that was there.
        """
        if self._since_s is not None:
            self._gaps_s.append(max(0.0, now_s - self._since_s))
        self._since_s = None if is_idle else now_s
        if is_idle:
            # Everybody who was turned away may come now.
            self._promised_until_s = now_s

    def promise_s(self, now_s: float) -> float:
        """Seconds after which a place should be free for one more who is turned away now.

        The first is promised the length of the gap that a random moment falls into: long gaps
        have more moments, so that is the mean of their squares over their mean. It is never less
        than what the present gap has lasted already. Everybody after it comes a mean gap later
        than the one before.
        """
        open_s = now_s - self._since_s if self._since_s is not None else 0.0
        first_s = max(self._likely_gap_s, open_s)
        at_s = max(now_s + first_s, self._promised_until_s + self._mean_gap_s)
        promised_s = min(MAX_PROMISE_S, max(MIN_PROMISE_S, at_s - now_s))
        self._promised_until_s = now_s + promised_s
        return promised_s

    @property
    def _mean_gap_s(self) -> float:
        return sum(self._gaps_s) / len(self._gaps_s) if self._gaps_s else 0.0

    @property
    def _likely_gap_s(self) -> float:
        total_s = sum(self._gaps_s)
        return sum(gap_s**2 for gap_s in self._gaps_s) / total_s if total_s else 0.0
