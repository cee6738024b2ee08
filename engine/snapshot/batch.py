"""The running batch, rates and totals."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.snapshot.durations import DurationsRow


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """The running batch.

    Attributes:
        num_running: Sequences that prefill or decode.
        num_waiting: Sequences in the queue, those of paused agents left out.
        num_decoding: Sequences in the last decode step.
        slice_tokens: Tokens in the last prefill slice.
        stall_ms: How long the last prefill slice kept decoders waiting.
        stall_limit_ms: The budget for that.
        oldest_wait_s: How long the longest-waiting request has waited.
        prefilling: The agent whose slice ran last; empty when none.
        window_ms: How long an idle engine waits for company for a first request.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_decoding: int = 0
    slice_tokens: int = 0
    stall_ms: float = 0.0
    stall_limit_ms: float = 200.0
    oldest_wait_s: float = 0.0
    prefilling: str = ""
    window_ms: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputRow:
    """Rates over the last seconds, totals, and what else is worth a chart.

    Attributes:
        prefill_tok_s: Prompt tokens computed per second of prefill, last few seconds.
        decode_tok_s: Tokens generated per second over all sequences, last few seconds.
        ttft_p50_s: Median time to first token over the last turns; None before the first.
        ttft_p95_s: 95th percentile of the same.
        num_prompt_tokens: Prompt tokens of all turns so far.
        num_cached_tokens: Those that came from the cache.
        num_restored_tokens: Those of the cached ones that were read from disk.
        num_lost_tokens: Those that were known before and computed again.
        num_generated_tokens: Tokens generated so far.
        num_turns: Turns finished so far.
        pool_use: Share of the pool that agents and sequences hold now, 0-1.
        load_durations: How long models took from the decision to load one until it served.
        swap_durations: How long changes of model took, from the command until the new one served.
    """

    prefill_tok_s: float = 0.0
    decode_tok_s: float = 0.0
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_restored_tokens: int = 0
    num_lost_tokens: int = 0
    num_generated_tokens: int = 0
    num_turns: int = 0
    pool_use: float = 0.0
    load_durations: DurationsRow = field(default_factory=DurationsRow)
    swap_durations: DurationsRow = field(default_factory=DurationsRow)
