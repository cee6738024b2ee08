"""Counts durations by their length, in a space that never grows."""

from __future__ import annotations

from bisect import bisect_left

from engine.snapshot.durations import DurationsRow

LOAD_BOUNDS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
"""From a small model that the system has in memory to a large one from a slow disk."""
WRITE_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """Counts of one kind of duration. One thread adds; any thread may look."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        """Starts with nothing measured.

        Args:
            bounds_s: Upper bounds of the classes in seconds, ascending.
        """
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._total_s = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._total_s += seconds

    @property
    def row(self) -> DurationsRow:
        """What was counted so far."""
        return DurationsRow(
            bounds_s=self._bounds_s, counts=tuple(self._counts), total_s=self._total_s
        )
