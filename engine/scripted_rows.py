"""A scripted world's state as rows of a snapshot. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from engine.scripted_cast import (
    ACTIVE,
    BLOCK_BYTES,
    BLOCK_TOKENS,
    MAX_CONTEXT_TOKENS,
    RUNNING,
    Actor,
)
from engine.scripted_memory import ScriptedMemory
from engine.snapshot import (
    AgentRow,
    AgentStatus,
    BatchRow,
    MissCause,
    MissRow,
    PoolRow,
    ThroughputRow,
    TurnTimes,
)

PREFILL_TOK_S = 860.0
STALL_LIMIT_MS = 200.0
SLICE_TOKENS = 64
ACTIVITY_RANK = {
    AgentStatus.DECODING: 0,
    AgentStatus.PREFILLING: 1,
    AgentStatus.RESTORING: 2,
    AgentStatus.QUEUED: 3,
}
REST_RANK = 4


def decode_rate(step: int, num_decoding: int, *, is_prefilling: bool) -> float:
    """Tokens per second of each decoding agent: less in company, less beside a prefill."""
    wobble = 1.0 + 0.05 * ((step * 7919) % 11 - 5) / 5
    slowed = 0.72 if is_prefilling else 1.0
    return 21.0 / (1.0 + 0.22 * max(0, num_decoding - 1)) * wobble * slowed


def by_activity(actors: Sequence[Actor]) -> list[Actor]:
    """Most recently active first."""
    return sorted(actors, key=lambda a: (ACTIVITY_RANK.get(a.status, REST_RANK), -a.ended_at_s))


def pool_row(memory: ScriptedMemory, actors: Sequence[Actor]) -> PoolRow:
    """The pool, with owners in the order of ``actors``."""
    pool = memory.pool
    running = [actor for actor in actors if actor.status in RUNNING]
    states, owners, tiers = pool.block_map(
        {actor.role.agent_id: index for index, actor in enumerate(actors)},
        active={actor.role.agent_id for actor in running},
        pinned={actor.role.agent_id for actor in actors if actor.pinned},
        pending=memory.disk.pending,
        stored=memory.disk.stored,
    )
    return PoolRow(
        block_tokens=BLOCK_TOKENS,
        block_bytes=BLOCK_BYTES,
        num_total_blocks=pool.num_blocks,
        num_free_blocks=pool.num_free,
        num_cached_blocks=pool.num_cached,
        num_shared_blocks=pool.num_shared,
        num_running_blocks=len({block for actor in running for block in actor.table}),
        num_evictions=memory.num_evictions,
        bytes_used=(pool.num_blocks - pool.num_free) * BLOCK_BYTES,
        bytes_budget=pool.num_blocks * BLOCK_BYTES,
        block_states=states,
        block_owners=owners,
        block_tiers=tiers,
    )


def batch_row(
    actors: Sequence[Actor], prefiller: Actor | None, now_s: float, step: int, window_ms: float
) -> BatchRow:
    """The batch; ``prefiller`` is the agent whose slice ran last."""
    statuses = [actor.status for actor in actors]
    queued = (a for a in actors if a.status is AgentStatus.QUEUED and not a.paused)
    waits = [now_s - actor.queued_at_s for actor in queued]
    return BatchRow(
        num_running=sum(status in RUNNING for status in statuses),
        num_waiting=len(waits),
        num_decoding=statuses.count(AgentStatus.DECODING),
        slice_tokens=SLICE_TOKENS if prefiller else 0,
        stall_ms=136.0 + (step * 37) % 22 if prefiller else 0.0,
        stall_limit_ms=STALL_LIMIT_MS,
        oldest_wait_s=max(waits, default=0.0),
        prefilling=prefiller.role.agent_id if prefiller else "",
        window_ms=window_ms,
    )


def throughput_row(
    totals: ThroughputRow,
    ttfts: Sequence[float],
    total_decode_tok_s: float,
    prefill_tok_s: float,
    pool_use: float,
) -> ThroughputRow:
    """Rates now, quantiles of the latest times to first token, and how full the pool is."""
    ordered = sorted(ttfts)
    return dataclasses.replace(
        totals,
        prefill_tok_s=prefill_tok_s,
        decode_tok_s=total_decode_tok_s,
        ttft_p50_s=ordered[len(ordered) // 2] if ordered else None,
        ttft_p95_s=ordered[int(len(ordered) * 0.95)] if ordered else None,
        pool_use=pool_use,
    )


def agent_row(actor: Actor, memory: ScriptedMemory, now_s: float, decode_tok_s: float) -> AgentRow:
    """One agent; ``decode_tok_s`` is its rate if it decodes."""
    status = actor.status
    is_prefilling = status is AgentStatus.PREFILLING
    is_decoding = status is AgentStatus.DECODING
    awaits_tools = status is AgentStatus.IDLE and actor.awaits_tools
    return AgentRow(
        agent_id=actor.role.agent_id,
        protocol=actor.role.protocol,
        status=AgentStatus.TOOL_WAIT if awaits_tools else status,
        pinned=actor.pinned,
        paused=actor.paused,
        priority=actor.priority,
        num_context_tokens=actor.num_context,
        max_context_tokens=MAX_CONTEXT_TOKENS,
        num_cached_tokens=actor.num_cached,
        num_restored_tokens=actor.num_restored,
        num_prompt_tokens=actor.num_prompt,
        num_generated_tokens=actor.num_generated,
        num_turns=actor.num_turns,
        turns=tuple(actor.turns),
        hot_bytes=len(actor.table) * BLOCK_BYTES,
        warm_bytes=memory.num_on_disk(actor) * BLOCK_BYTES,
        shared_bytes=memory.pool.num_shared_of(actor.table) * BLOCK_BYTES,
        decode_tok_s=decode_tok_s if is_decoding else 0.0,
        prefill_progress=1.0 - actor.prefill_left / actor.num_to_prefill if is_prefilling else 1.0,
        eta_s=_eta_s(actor, now_s),
        ttft_s=actor.ttft_s,
        wait_s=now_s - actor.queued_at_s if status is AgentStatus.QUEUED else 0.0,
        idle_s=now_s - actor.ended_at_s if status not in ACTIVE else 0.0,
        num_restoring_tokens=(actor.num_restored if status is AgentStatus.RESTORING else 0),
        miss=actor.miss,
        times=times_of(actor, now_s) if status in ACTIVE else TurnTimes(),
    )


def times_of(actor: Actor, now_s: float) -> TurnTimes:
    """Where the time of an agent's turn went up to now."""
    if actor.status is AgentStatus.RESTORING:
        return TurnTimes(restore_s=max(0.0, actor.restore_s - (actor.restored_at_s - now_s)))
    if actor.status is AgentStatus.QUEUED:
        return TurnTimes(queue_s=now_s - actor.queued_at_s, restore_s=actor.restore_s)
    first_s = actor.queued_at_s + actor.ttft_s if actor.ttft_s is not None else now_s
    decode_at_s = now_s if actor.prefill_left else min(now_s, max(actor.begun_at_s, first_s))
    return TurnTimes(
        queue_s=max(0.0, actor.begun_at_s - actor.queued_at_s),
        restore_s=actor.restore_s,
        prefill_s=decode_at_s - actor.begun_at_s,
        decode_s=now_s - decode_at_s,
    )


def _eta_s(actor: Actor, now_s: float) -> float | None:
    if actor.status is AgentStatus.PREFILLING:
        return actor.prefill_left / PREFILL_TOK_S
    if actor.status is AgentStatus.RESTORING:
        return max(0.0, actor.restored_at_s - now_s)
    return None


def miss_row(actor: Actor, num_before: int, changed_part: str) -> MissRow:
    """How the cache met the prompt of a turn that begins.

    Args:
        actor: Whose turn it is; its counts are the new turn's.
        num_before: Tokens of its context when its last turn ended.
        changed_part: The part of the prompt that has changed; empty where none has.
    """
    num_lost = max(0, min(num_before, actor.num_prompt - 1) - actor.num_cached)
    num_warm = min(actor.num_restored, actor.num_cached)
    row = MissRow(
        num_hot_tokens=actor.num_cached - num_warm,
        num_warm_tokens=num_warm,
        num_lost_tokens=num_lost,
        num_new_tokens=actor.num_prompt - actor.num_cached - num_lost,
        lost_s=num_lost / PREFILL_TOK_S if num_lost else None,
    )
    if not num_lost:
        cause = MissCause.NONE if actor.num_turns else MissCause.FIRST_TURN
        return dataclasses.replace(row, cause=cause)
    if not changed_part:
        cause = MissCause.OTHER_MODEL if actor.is_foreign else MissCause.EVICTED
        return dataclasses.replace(row, cause=cause)
    return dataclasses.replace(
        row, cause=MissCause.CHANGED_TEXT, changed_token=actor.num_cached, part=changed_part
    )
