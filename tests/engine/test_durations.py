from __future__ import annotations

from engine.durations import Durations


def test_durations_are_counted_by_their_upper_bound() -> None:
    durations = Durations((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 30.0):
        durations.add(seconds)
    row = durations.row
    assert row.bounds_s == (0.1, 1.0)
    assert row.counts == (2, 1, 1)
    assert row.total_s == 30.65
