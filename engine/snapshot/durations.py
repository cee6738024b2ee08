"""How often something took how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationsRow:
    """Durations so far, counted by length.

    Attributes:
        bounds_s: Upper bounds of the classes in seconds, ascending; the last class has none.
        counts: How many fell into each class, one more than there are bounds; empty where nothing
            is measured.
        total_s: All durations together.
    """

    bounds_s: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    total_s: float = 0.0
