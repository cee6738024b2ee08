"""What comes out of the engine: one frozen, JSON-serialisable snapshot, replaced whole.

The dashboard draws it, ``GET /admin/state`` returns it, recordings store it. It holds plain data
only (numbers, strings, tuples, bytes), never arrays or live objects.
"""

from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any


class EngineStatus(StrEnum):
    """What the engine is doing as a whole."""

    STARTING = "starting"
    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class AgentStatus(StrEnum):
    """What one agent is doing."""

    QUEUED = "queued"
    RESTORING = "restoring"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    IDLE = "idle"
    WARM = "warm"
    """Its cache is on disk only."""
    COLD = "cold"
    """Its cache is gone and would have to be recomputed."""


class BlockState(IntEnum):
    """State of one block in the block map; one byte each."""

    FREE = 0
    RUNNING = 1
    """Held by a sequence that is generating."""
    SHARED = 2
    """Held by more than one agent."""
    HOT = 3
    """Held by one idle agent."""
    CACHED = 4
    """Held by nobody, still reusable, first to go."""
    PINNED = 5
    """Held by a pinned agent."""
    DIRTY = 6
    """Not yet written to disk."""


NO_OWNER = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """The active model.

    Attributes:
        model_id: Its name here.
        path: Where it lies.
        architecture: ``model_type`` of its config.
        num_parameters: Parameter count.
        weight_bytes: Bytes of its weights in memory.
        max_context_tokens: Context limit in tokens.
        kv_bytes_per_token: Bytes of KV cache per token over all layers.
        dtype: Type of its weights and KV, e.g. ``float32``.
        batching: ``ragged``, or ``single`` where the self-test refused batching.
        load_s: Seconds to load and self-test.
    """

    model_id: str
    path: str = ""
    architecture: str = ""
    num_parameters: int = 0
    weight_bytes: int = 0
    max_context_tokens: int = 0
    kv_bytes_per_token: int = 0
    dtype: str = ""
    batching: str = "ragged"
    load_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """The device and what it has left.

    Attributes:
        name: ``metal``, ``cuda`` or ``cpu``.
        description: Chip or processor name.
        fast_paths: What was switched on, in words.
        fallbacks: What could not be switched on and why, in words.
        memory_used_bytes: Footprint of this process.
        memory_active_bytes: Bytes of live mlx arrays.
        memory_limit_bytes: What the process may use.
    """

    name: str = "cpu"
    description: str = ""
    fast_paths: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    memory_used_bytes: int = 0
    memory_active_bytes: int = 0
    memory_limit_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """The block pool.

    ``block_states`` has one ``BlockState`` byte per block; ``block_owners`` one byte per block:
    the index of the owning agent in ``EngineSnapshot.agents`` (modulo 255), or ``NO_OWNER``.

    Attributes:
        block_tokens: Tokens per block.
        block_bytes: Bytes per full block over all layers.
        num_total_blocks: Size of the pool.
        num_free_blocks: Blocks that hold nothing.
        num_cached_blocks: Blocks nobody holds that are still reusable.
        num_shared_blocks: Blocks held by more than one agent.
        num_running_blocks: Blocks held by sequences that generate.
        num_evictions: Agents evicted so far.
        bytes_used: Bytes of all blocks that are not free.
        bytes_budget: Bytes of the whole pool.
        block_states: See above.
        block_owners: See above.
    """

    block_tokens: int = 256
    block_bytes: int = 0
    num_total_blocks: int = 0
    num_free_blocks: int = 0
    num_cached_blocks: int = 0
    num_shared_blocks: int = 0
    num_running_blocks: int = 0
    num_evictions: int = 0
    bytes_used: int = 0
    bytes_budget: int = 0
    block_states: bytes = b""
    block_owners: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRow:
    """The warm tier: blocks on disk.

    Attributes:
        is_on: Whether blocks are being written.
        reason_off: Why not, in words; empty when on, or when none was asked for.
        bytes_used: Bytes of all block files.
        bytes_budget: What they may take together; 0 when there is no warm tier.
        num_blocks: Block files.
        num_pending: Blocks that wait to be written.
        num_quarantined: Files that were set aside since the start because they were not what was
            written.
    """

    is_on: bool = False
    reason_off: str = ""
    bytes_used: int = 0
    bytes_budget: int = 0
    num_blocks: int = 0
    num_pending: int = 0
    num_quarantined: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """The running batch.

    Attributes:
        num_running: Sequences that prefill or decode.
        num_waiting: Sequences in the queue.
        num_decoding: Sequences in the last decode step.
        slice_tokens: Tokens in the last prefill slice.
        stall_ms: How long the last prefill slice kept decoders waiting.
        stall_limit_ms: The budget for that.
        oldest_wait_s: How long the longest-waiting request has waited.
        prefilling: The agent whose slice ran last; empty when none.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_decoding: int = 0
    slice_tokens: int = 0
    stall_ms: float = 0.0
    stall_limit_ms: float = 200.0
    oldest_wait_s: float = 0.0
    prefilling: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputRow:
    """Rates over the last seconds, and totals.

    Attributes:
        prefill_tok_s: Prompt tokens computed per second of prefill, last few seconds.
        decode_tok_s: Tokens generated per second over all sequences, last few seconds.
        ttft_p50_s: Median time to first token over the last turns; None before the first.
        ttft_p95_s: 95th percentile of the same.
        num_prompt_tokens: Prompt tokens of all turns so far.
        num_cached_tokens: Those that came from the cache.
        num_generated_tokens: Tokens generated so far.
        num_turns: Turns finished so far.
    """

    prefill_tok_s: float = 0.0
    decode_tok_s: float = 0.0
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    num_turns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow:
    """One agent.

    Attributes:
        agent_id: The id the client sent, or the name given here.
        protocol: ``anthropic``, ``openai`` or ``local``.
        status: What it is doing.
        pinned: Whether its cache is kept from eviction.
        num_context_tokens: Tokens of its context, so far.
        max_context_tokens: The model's limit.
        num_cached_tokens: Prompt tokens of the last turn that came from the cache.
        num_restored_tokens: Those of them that were read from disk.
        num_prompt_tokens: Prompt tokens of the last turn.
        num_generated_tokens: Tokens generated in the last turn, so far.
        num_turns: Turns so far.
        hot_bytes: Bytes of its KV in RAM, shared ones included.
        warm_bytes: Bytes of its KV on disk.
        shared_bytes: Those of ``hot_bytes`` that other agents hold too.
        decode_tok_s: Its own rate now; 0 unless decoding.
        prefill_progress: Share of its prompt that is done, 0-1; 1 unless prefilling.
        eta_s: Estimated seconds until the first token while prefilling; None otherwise.
        ttft_s: Time to first token of the last turn; None before the first.
        wait_s: Seconds in the queue, while queued.
        idle_s: Seconds since its last turn ended, while idle.
        last_miss: Why tokens were recomputed in the last turn; empty when nothing was.
    """

    agent_id: str
    protocol: str = "local"
    status: AgentStatus = AgentStatus.IDLE
    pinned: bool = False
    num_context_tokens: int = 0
    max_context_tokens: int = 0
    num_cached_tokens: int = 0
    num_restored_tokens: int = 0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_turns: int = 0
    hot_bytes: int = 0
    warm_bytes: int = 0
    shared_bytes: int = 0
    decode_tok_s: float = 0.0
    prefill_progress: float = 1.0
    eta_s: float | None = None
    ttft_s: float | None = None
    wait_s: float = 0.0
    idle_s: float = 0.0
    last_miss: str = ""

    @property
    def hit_ratio(self) -> float | None:
        """Share of the last turn's prompt that came from the cache, 0-1; None before one."""
        return self.num_cached_tokens / self.num_prompt_tokens if self.num_prompt_tokens else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEvent:
    """A rare thing that happened, with its reason and numbers.

    Attributes:
        number: Counts up from 1 over the life of the process.
        time: Wall-clock seconds since the epoch.
        kind: One word: load, evict, pin, miss, abort, reject, fallback, alias, error, ...
        text: One line for people.
        level: ``info``, ``warning`` or ``error``.
    """

    number: int
    time: float
    kind: str
    text: str
    level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSnapshot:
    """The state of the engine at one moment.

    Attributes:
        step: Engine steps so far; unchanged means nothing moved.
        time: Wall-clock seconds since the epoch.
        uptime_s: Seconds since the engine was made.
        status: What it is doing.
        status_text: The same in words, e.g. the part of a load under way, or why it failed.
        progress: Share of a load that is done, 0-1.
        model: Id of the active model; empty before one is loaded.
        device: ``metal``, ``cuda``, ``cpu``; empty before it is known.
        model_detail: The active model.
        device_detail: The device.
        pool: The block pool.
        disk: The warm tier.
        batch: The running batch.
        throughput: Rates and totals.
        agents: One row each, most recently active first.
        events: The newest events, oldest first.
    """

    step: int = 0
    time: float = 0.0
    uptime_s: float = 0.0
    status: EngineStatus = EngineStatus.STARTING
    status_text: str = ""
    progress: float = 0.0
    model: str = ""
    device: str = ""
    model_detail: ModelRow | None = None
    device_detail: DeviceRow = DeviceRow()
    pool: PoolRow = PoolRow()
    disk: DiskRow = DiskRow()
    batch: BatchRow = BatchRow()
    throughput: ThroughputRow = ThroughputRow()
    agents: tuple[AgentRow, ...] = ()
    events: tuple[EngineEvent, ...] = ()

    def agent(self, agent_id: str) -> AgentRow | None:
        """The row of one agent, or None."""
        return next((row for row in self.agents if row.agent_id == agent_id), None)


EMPTY_SNAPSHOT = EngineSnapshot()


def to_json(snapshot: EngineSnapshot) -> dict[str, Any]:
    """The snapshot as JSON-serialisable data; byte maps become base64 text."""
    data = dataclasses.asdict(snapshot)
    for name in ("block_states", "block_owners"):
        data["pool"][name] = base64.b64encode(data["pool"][name]).decode("ascii")
    return data


def from_json(data: dict[str, Any]) -> EngineSnapshot:
    """The inverse of ``to_json``.

    Raises:
        KeyError, TypeError, ValueError: The data is not a snapshot of this version.
    """
    pool = dict(data["pool"])
    for name in ("block_states", "block_owners"):
        pool[name] = base64.b64decode(pool[name])
    device = dict(data["device_detail"])
    device["fast_paths"] = tuple(device["fast_paths"])
    device["fallbacks"] = tuple(device["fallbacks"])
    model = data["model_detail"]
    fields = dict(data)
    fields["status"] = EngineStatus(data["status"])
    fields["model_detail"] = ModelRow(**model) if model else None
    fields["device_detail"] = DeviceRow(**device)
    fields["pool"] = PoolRow(**pool)
    fields["disk"] = DiskRow(**data["disk"])
    fields["batch"] = BatchRow(**data["batch"])
    fields["throughput"] = ThroughputRow(**data["throughput"])
    fields["agents"] = tuple(
        AgentRow(**{**row, "status": AgentStatus(row["status"])}) for row in data["agents"]
    )
    fields["events"] = tuple(EngineEvent(**event) for event in data["events"])
    return EngineSnapshot(**fields)
