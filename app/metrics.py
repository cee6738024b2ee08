"""Prometheus metrics: the engine's snapshot, and what the API counts. No label names an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app.version import __version__
from engine.snapshot import AgentStatus, DurationsRow, EngineSnapshot, EngineStatus

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# A long prompt on a small machine prefills for minutes, a cached one for milliseconds.
TTFT_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
TURN_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
QUEUE_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
INTER_TOKEN_BUCKETS_S = (
    *(0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10),
)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, snapshot: Callable[[], EngineSnapshot]) -> None:
        """Makes the metrics.

        Args:
            snapshot: Gives the engine's newest snapshot at each scrape.
        """
        self._registry = CollectorRegistry()
        self._registry.register(_SnapshotCollector(snapshot))
        self.requests = Counter(
            "stoker_http_requests",
            "Requests answered, by the model that served them (empty where none did) and status.",
            ("model", "status"),
            registry=self._registry,
        )
        self.turn_duration_s = Histogram(
            "stoker_turn_duration_seconds",
            "Time from a turn's arrival to the end of its reply.",
            buckets=TURN_BUCKETS_S,
            registry=self._registry,
        )
        self.queue_s = Histogram(
            "stoker_queue_wait_seconds",
            "Time that a turn waited before anything was computed for it.",
            buckets=QUEUE_BUCKETS_S,
            registry=self._registry,
        )
        self.ttft_s = Histogram(
            "stoker_time_to_first_token_seconds",
            "Time from a turn's arrival to its first token, as the API sees it.",
            buckets=TTFT_BUCKETS_S,
            registry=self._registry,
        )
        self.inter_token_s = Histogram(
            "stoker_inter_token_seconds",
            "Time between two tokens of a turn, as the API sees it.",
            buckets=INTER_TOKEN_BUCKETS_S,
            registry=self._registry,
        )

    def render(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self._registry)


class _SnapshotCollector:
    """Reads the snapshot once per scrape."""

    def __init__(self, snapshot: Callable[[], EngineSnapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        yield from _engine(snapshot)
        yield from _pool(snapshot)
        yield from _disk(snapshot)
        yield from _agents(snapshot)
        yield from _totals(snapshot)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"stoker_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"stoker_{name}", text, value=value)


def _histogram(name: str, text: str, row: DurationsRow) -> HistogramMetricFamily:
    bounds = [*map(str, row.bounds_s), "+Inf"]
    counts = list(accumulate(row.counts)) or [0] * len(bounds)
    return HistogramMetricFamily(
        f"stoker_{name}",
        text,
        buckets=list(zip(bounds, counts, strict=True)),
        sum_value=row.total_s,
    )


def _engine(snapshot: EngineSnapshot) -> Iterator[Metric]:
    yield InfoMetricFamily("stoker_build", "This Stoker.", value={"version": __version__})
    status = GaugeMetricFamily(
        "stoker_engine_status", "1 for the present status.", labels=["status"]
    )
    for each in EngineStatus:
        status.add_metric([each.value], float(each is snapshot.status))
    yield status
    model = GaugeMetricFamily(
        "stoker_model_info", "1 for the active model.", labels=["model", "device", "dtype"]
    )
    if snapshot.model_detail is not None:
        detail = snapshot.model_detail
        model.add_metric([detail.model_id, snapshot.device, detail.dtype], 1.0)
    yield model
    device = snapshot.device_detail
    yield _gauge("uptime_seconds", "Time since the engine was made.", snapshot.uptime_s)
    yield _gauge("memory_used_bytes", "Footprint of the process.", device.memory_used_bytes)
    yield _gauge("memory_active_bytes", "Live mlx arrays.", device.memory_active_bytes)
    yield _gauge("memory_limit_bytes", "What the process may use.", device.memory_limit_bytes)
    batch = snapshot.batch
    yield _gauge("batch_running", "Sequences that prefill or decode.", batch.num_running)
    yield _gauge("batch_decoding", "Sequences in the last decode step.", batch.num_decoding)
    yield _gauge("queue_depth", "Sequences that wait.", batch.num_waiting)
    yield _gauge("queue_oldest_seconds", "The longest wait now.", batch.oldest_wait_s)
    yield _gauge(
        "decode_stall_seconds", "The last pause of decoding for a prefill.", batch.stall_ms / 1000
    )


def _pool(snapshot: EngineSnapshot) -> Iterator[Metric]:
    pool = snapshot.pool
    used_ratio = pool.bytes_used / pool.bytes_budget if pool.bytes_budget else 0.0
    yield _gauge("pool_used_ratio", "Share of the block pool in use, 0-1.", used_ratio)
    yield _gauge("pool_used_bytes", "Blocks that are not free.", pool.bytes_used)
    yield _gauge("pool_budget_bytes", "The whole block pool.", pool.bytes_budget)
    blocks = GaugeMetricFamily("stoker_pool_blocks", "Blocks, by state.", labels=["state"])
    for state, num_blocks in (
        ("total", pool.num_total_blocks),
        ("free", pool.num_free_blocks),
        ("cached", pool.num_cached_blocks),
        ("shared", pool.num_shared_blocks),
        ("running", pool.num_running_blocks),
        ("withheld", pool.num_withheld_blocks),
    ):
        blocks.add_metric([state], num_blocks)
    yield blocks
    yield _counter("agent_evictions", "Agents evicted.", pool.num_evictions)
    evicted = CounterMetricFamily(
        "stoker_evicted_blocks",
        "Reusable blocks that left a tier: memory is hot, disk is warm.",
        labels=["tier"],
    )
    evicted.add_metric(["hot"], pool.num_evicted_blocks)
    evicted.add_metric(["warm"], snapshot.disk.num_evicted_blocks)
    yield evicted


def _disk(snapshot: EngineSnapshot) -> Iterator[Metric]:
    disk = snapshot.disk
    yield _gauge("disk_on", "1 while blocks are written to disk.", float(disk.is_on))
    yield _gauge("disk_used_bytes", "Block files.", disk.bytes_used)
    yield _gauge("disk_budget_bytes", "What block files may take.", disk.bytes_budget)
    yield _gauge("disk_blocks", "Block files, by number.", disk.num_blocks)
    yield _gauge("disk_pending_blocks", "Blocks that wait to be written.", disk.num_pending)
    yield _counter(
        "disk_quarantined_files", "Files set aside for their content.", disk.num_quarantined
    )
    yield _gauge("disk_wanted", "1 where a warm tier was asked for.", float(disk.bytes_budget > 0))
    yield _histogram(
        "persist_duration_seconds", "Time until a block was durable.", disk.write_durations
    )


def _agents(snapshot: EngineSnapshot) -> Iterator[Metric]:
    agents = GaugeMetricFamily("stoker_agents", "Agents, by status.", labels=["status"])
    for status in AgentStatus:
        agents.add_metric([status.value], sum(row.status is status for row in snapshot.agents))
    yield agents
    yield _gauge("agents_pinned", "Pinned agents.", sum(row.pinned for row in snapshot.agents))


def _totals(snapshot: EngineSnapshot) -> Iterator[Metric]:
    totals = snapshot.throughput
    yield _counter("prompt_tokens", "Prompt tokens, cached or not.", totals.num_prompt_tokens)
    yield _counter(
        "prompt_cached_tokens", "Prompt tokens from the cache.", totals.num_cached_tokens
    )
    tiers = CounterMetricFamily(
        "stoker_prompt_tier_tokens",
        "Prompt tokens, by where they came from: memory, disk, computed though known, or new.",
        labels=["tier"],
    )
    num_known = totals.num_cached_tokens + totals.num_lost_tokens
    for tier, num_tokens in (
        ("hot", totals.num_cached_tokens - totals.num_restored_tokens),
        ("warm", totals.num_restored_tokens),
        ("recomputed", totals.num_lost_tokens),
        ("new", totals.num_prompt_tokens - num_known),
    ):
        tiers.add_metric([tier], num_tokens)
    yield tiers
    yield _counter("generated_tokens", "Tokens generated.", totals.num_generated_tokens)
    yield _counter("turns", "Turns finished.", totals.num_turns)
    yield _histogram(
        "model_load_duration_seconds",
        "Time until a model served, at the start or after a swap.",
        totals.load_durations,
    )
    yield _histogram(
        "model_swap_duration_seconds",
        "Time that a change of model took, from the request until the new one served.",
        totals.swap_durations,
    )
    yield _gauge("prefill_tokens_per_second", "Prefill rate now.", totals.prefill_tok_s)
    yield _gauge("decode_tokens_per_second", "Decode rate now.", totals.decode_tok_s)
