"""What still scenes are made of: a pool from runs of blocks, sized rows, an engine that serves."""

from __future__ import annotations

import dataclasses

from engine.scripted_cast import BLOCK_BYTES, BLOCK_TOKENS, DEVICE, MAX_CONTEXT_TOKENS, MODEL
from engine.snapshot import (
    NO_OWNER,
    AgentRow,
    BlockState,
    BlockTier,
    DiskRow,
    EngineEvent,
    EngineSnapshot,
    EngineStatus,
    MissCause,
    MissRow,
    PoolRow,
)

NOON_S = 1_763_640_000.0
RUN = BlockState.RUNNING
SHARED = BlockState.SHARED
HOT = BlockState.HOT
CACHED = BlockState.CACHED
PINNED = BlockState.PINNED
DIRTY = BlockState.DIRTY
Run = tuple[BlockState, int, int]
"""State, owner and length of a run of blocks."""


def sized(row: AgentRow, shared: float = 0.0, stored: float = 1.0) -> AgentRow:
    """A row with the bytes that its context takes; nothing was lost unless it says so.

    Args:
        row: The row.
        shared: Share of the bytes that others hold too, 0-1.
        stored: Share of them that is on disk, 0-1.
    """
    num_blocks = -(-row.num_context_tokens // BLOCK_TOKENS)
    return dataclasses.replace(
        row,
        max_context_tokens=MAX_CONTEXT_TOKENS,
        hot_bytes=num_blocks * BLOCK_BYTES,
        warm_bytes=int(num_blocks * stored) * BLOCK_BYTES,
        shared_bytes=int(num_blocks * shared) * BLOCK_BYTES,
        miss=row.miss if row.miss.num_prompt_tokens else met(row),
    )


def met(row: AgentRow) -> MissRow:
    """How the cache met a row's last prompt when nothing was lost."""
    return MissRow(
        num_hot_tokens=row.num_cached_tokens - row.num_restored_tokens,
        num_warm_tokens=row.num_restored_tokens,
        num_new_tokens=row.num_prompt_tokens - row.num_cached_tokens,
        cause=MissCause.NONE if row.num_turns else MissCause.FIRST_TURN,
    )


def pool(runs: tuple[Run, ...], num_blocks: int, num_evictions: int = 0) -> PoolRow:
    """A pool made of runs, the rest free."""
    states = b"".join(bytes([state]) * length for state, _, length in runs)
    owners = b"".join(bytes([owner]) * length for _, owner, length in runs)
    states = states.ljust(num_blocks, bytes([BlockState.FREE]))
    owners = owners.ljust(num_blocks, bytes([NO_OWNER]))
    num_free = states.count(BlockState.FREE)
    return PoolRow(
        block_tokens=BLOCK_TOKENS,
        block_bytes=BLOCK_BYTES,
        num_total_blocks=num_blocks,
        num_free_blocks=num_free,
        num_cached_blocks=states.count(CACHED),
        num_shared_blocks=states.count(SHARED),
        num_running_blocks=states.count(RUN),
        num_evictions=num_evictions,
        bytes_used=(num_blocks - num_free) * BLOCK_BYTES,
        bytes_budget=num_blocks * BLOCK_BYTES,
        block_states=states,
        block_owners=owners,
        block_tiers=tiers_of(states),
    )


def tiers_of(states: bytes) -> bytes:
    """Where blocks in these states are, one byte each: what is at rest has been written."""
    return bytes(_TIER.get(BlockState(state), BlockTier.DISK) for state in states)


_TIER = {
    BlockState.FREE: BlockTier.NONE,
    BlockState.RUNNING: BlockTier.MEMORY,
    BlockState.DIRTY: BlockTier.MEMORY,
}


def event(number: int, kind: str, text: str, level: str = "info") -> EngineEvent:
    """An event, ten seconds after the one before."""
    return EngineEvent(number=number, time=NOON_S + number * 10, kind=kind, text=text, level=level)


SERVING = EngineSnapshot(
    step=1200,
    time=NOON_S,
    uptime_s=8040.0,
    status=EngineStatus.SERVING,
    progress=1.0,
    model=MODEL.model_id,
    device=DEVICE.name,
    model_detail=MODEL,
    device_detail=DEVICE,
    pool=pool((), 192),
    disk=DiskRow(
        is_on=True,
        bytes_used=1_203_000_000,
        bytes_budget=20_000_000_000,
        num_blocks=102,
    ),
    events=(event(1, "load", "SmolLM2-135M-Instruct in 3.4 s, batching ragged"),),
)
