"""Rows of a snapshot with a number in every place that a metric shows."""

from __future__ import annotations

from engine.snapshot import DiskRow, DurationsRow, ThroughputRow

DISK = DiskRow(
    is_on=True,
    bytes_used=50,
    bytes_budget=80,
    num_blocks=5,
    num_pending=2,
    num_quarantined=1,
    num_evicted_blocks=3,
    write_durations=DurationsRow(bounds_s=(0.01, 0.1), counts=(4, 1, 1), total_s=0.5),
)
THROUGHPUT = ThroughputRow(
    num_prompt_tokens=1000,
    num_cached_tokens=700,
    num_restored_tokens=200,
    num_lost_tokens=60,
    num_generated_tokens=99,
    num_turns=5,
    load_durations=DurationsRow(bounds_s=(1.0, 10.0), counts=(0, 2, 0), total_s=9.0),
    swap_durations=DurationsRow(bounds_s=(1.0, 10.0), counts=(1, 0, 0), total_s=0.5),
)
