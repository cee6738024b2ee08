"""Draws the engine's state into one frozen snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.cache.agents import Agent, AgentStore, LastTurn
from engine.cache.block import KVBlock
from engine.cache.pool import BlockPool
from engine.persistence import Persistence
from engine.scheduler import Scheduler
from engine.sequence import Sequence, SequenceStatus
from engine.snapshot import (
    NO_OWNER,
    AgentRow,
    AgentStatus,
    BatchRow,
    BlockState,
    DiskRow,
    PoolRow,
)

MAX_OWNERS = NO_OWNER
"""Owners are one byte; agents further down share numbers."""


@dataclass(slots=True)
class StepReading:
    """What the last steps were like.

    Attributes:
        num_decoding: Sequences in the last decode step.
        decode_s: Seconds of the last decode step.
        slice_tokens: Tokens of the last prefill slice.
        stall_ms: How long it kept decoders waiting.
        prefilling: The agent it was for.
    """

    num_decoding: int = 0
    decode_s: float = 0.0
    slice_tokens: int = 0
    stall_ms: float = 0.0
    prefilling: str = ""


@dataclass(frozen=True, slots=True)
class BlockMap:
    """Who holds which block.

    Attributes:
        states: One ``BlockState`` per block.
        owners: One owner per block, or ``NO_OWNER``.
        shared: Ids of blocks that more than one agent holds.
        num_running: Blocks that pay for running sequences.
    """

    states: bytes
    owners: bytes
    shared: frozenset[int]
    num_running: int

    def num_shared(self, table: Iterable[KVBlock]) -> int:
        """How many of a table's blocks other agents hold too."""
        return sum(block.block_id in self.shared for block in table)


def block_map(
    pool: BlockPool,
    running: Iterable[Sequence],
    order: list[Agent],
    persistence: Persistence | None,
) -> BlockMap:
    """Looks through every table once.

    Args:
        pool: The pool.
        running: Sequences that run; their holds count for their agents.
        order: Agents in the order of the snapshot's rows.
        persistence: Knows what is on disk; None without a warm tier.
    """
    states = bytearray(pool.num_total_blocks)
    for block in pool:
        if block.ref_count == 0 and block.block_hash is not None:
            states[block.block_id] = BlockState.CACHED
    holders: dict[int, int] = {}
    shared: set[int] = set()
    sequences = {sequence.agent.agent_id: sequence for sequence in running}
    for number, agent in enumerate(order):
        for block, state in _held_by(agent, sequences.get(agent.agent_id)):
            if holders.setdefault(block.block_id, number) != number:
                shared.add(block.block_id)
            states[block.block_id] = state
    for block_id in shared:
        states[block_id] = BlockState.SHARED
    if persistence is not None:
        _mark_dirty(pool, states, persistence)
    owners = bytearray([NO_OWNER]) * pool.num_total_blocks
    for block_id, number in holders.items():
        owners[block_id] = number % MAX_OWNERS
    num_running = sum(len(sequence.working_blocks) for sequence in sequences.values())
    return BlockMap(bytes(states), bytes(owners), frozenset(shared), num_running)


def _num_known(agent: Agent) -> int:
    """Tokens of an agent's context that are not in memory any more."""
    return agent.saved.num_tokens if agent.saved else agent.num_evicted_tokens


def _mark_dirty(pool: BlockPool, states: bytearray, persistence: Persistence) -> None:
    """Marks sealed blocks of idle agents that would be lost with the process."""
    for block in pool:
        name = block.block_hash
        is_idle = states[block.block_id] == BlockState.HOT
        if is_idle and name is not None and not persistence.tier.has(name):
            states[block.block_id] = BlockState.DIRTY


def _held_by(agent: Agent, sequence: Sequence | None) -> Iterator[tuple[KVBlock, BlockState]]:
    state = BlockState.PINNED if agent.pinned else BlockState.HOT
    for block in agent.block_table:
        yield block, state
    if sequence is not None:
        for block in sequence.block_table:
            yield block, state
        for block in sequence.working_blocks:
            yield block, BlockState.RUNNING


def pool_row(pool: BlockPool, agents: AgentStore, blocks: BlockMap) -> PoolRow:
    """The block pool's counts and map."""
    num_used = pool.num_total_blocks - pool.num_free_blocks
    return PoolRow(
        block_bytes=pool.block_bytes,
        num_total_blocks=pool.num_total_blocks,
        num_free_blocks=pool.num_free_blocks,
        num_cached_blocks=pool.num_cached_blocks,
        num_shared_blocks=len(blocks.shared),
        num_running_blocks=blocks.num_running,
        num_evictions=agents.num_evictions,
        bytes_used=num_used * pool.block_bytes,
        bytes_budget=pool.num_total_blocks * pool.block_bytes,
        block_states=blocks.states,
        block_owners=blocks.owners,
    )


def disk_row(persistence: Persistence | None) -> DiskRow:
    """The warm tier's numbers."""
    if persistence is None:
        return DiskRow()
    stats = persistence.tier.stats
    return DiskRow(
        is_on=stats.is_on,
        reason_off=stats.reason_off,
        bytes_used=stats.bytes_used,
        bytes_budget=stats.budget_bytes,
        num_blocks=stats.num_blocks,
        num_pending=stats.num_pending,
        num_quarantined=stats.num_quarantined,
    )


def batch_row(scheduler: Scheduler, reading: StepReading, now_s: float) -> BatchRow:
    """The running batch."""
    waits = [now_s - sequence.arrival_s for sequence in scheduler.waiting]
    return BatchRow(
        num_running=len(scheduler.running),
        num_waiting=len(scheduler.waiting),
        num_decoding=reading.num_decoding if scheduler.running else 0,
        slice_tokens=reading.slice_tokens,
        stall_ms=reading.stall_ms,
        stall_limit_ms=scheduler.limits.decode_stall_ms,
        oldest_wait_s=max(waits, default=0.0),
        prefilling=reading.prefilling,
    )


def agent_row(
    agent: Agent,
    sequence: Sequence | None,
    *,
    blocks: BlockMap,
    persistence: Persistence | None,
    block_bytes: int,
    scheduler: Scheduler,
    max_context_tokens: int,
    decode_s: float,
    now_s: float,
) -> AgentRow:
    """One agent's lane.

    Args:
        agent: The agent.
        sequence: Its turn in progress, if any; a running one before waiting ones.
        blocks: For what it shares.
        persistence: For what is on disk; None without a warm tier.
        block_bytes: Bytes of one block.
        scheduler: For the time a prefill will take.
        max_context_tokens: The model's limit.
        decode_s: Seconds of the last decode step.
        now_s: Monotonic seconds.
    """
    warm_bytes = persistence.warm_bytes(agent) if persistence else 0
    status = _status(agent, sequence, warm_bytes)
    turn = agent.last_turn if sequence is None else _turn_of(sequence, agent.last_turn)
    table = sequence.block_table if sequence and sequence.block_table else agent.block_table
    num_working = len(sequence.working_blocks) if sequence else 0
    prefilling = status is AgentStatus.PREFILLING and sequence is not None
    return AgentRow(
        agent_id=agent.agent_id,
        protocol=agent.protocol,
        status=status,
        pinned=agent.pinned,
        num_context_tokens=(
            len(sequence.token_ids) if sequence else len(agent.token_ids) or _num_known(agent)
        ),
        max_context_tokens=max_context_tokens,
        num_cached_tokens=turn.num_cached_tokens,
        num_restored_tokens=turn.num_restored_tokens,
        num_prompt_tokens=turn.num_prompt_tokens,
        num_generated_tokens=turn.num_generated_tokens,
        num_turns=agent.num_turns,
        hot_bytes=max(num_working, len(agent.block_table)) * block_bytes,
        warm_bytes=warm_bytes,
        shared_bytes=blocks.num_shared(table) * block_bytes,
        decode_tok_s=1 / decode_s if status is AgentStatus.DECODING and decode_s else 0.0,
        prefill_progress=_progress(sequence) if prefilling else 1.0,
        eta_s=scheduler.prefill_eta_s(sequence.num_remaining_tokens)
        if prefilling and sequence
        else None,
        ttft_s=turn.ttft_s,
        wait_s=now_s - sequence.arrival_s if status is AgentStatus.QUEUED and sequence else 0.0,
        idle_s=now_s - agent.last_active_s if sequence is None else 0.0,
        last_miss=turn.miss,
    )


def _status(agent: Agent, sequence: Sequence | None, warm_bytes: int) -> AgentStatus:
    if sequence is None:
        without_ram = AgentStatus.WARM if warm_bytes else AgentStatus.COLD
        return AgentStatus.IDLE if agent.block_table else without_ram
    if sequence.is_restoring:
        return AgentStatus.RESTORING
    return {
        SequenceStatus.PREFILLING: AgentStatus.PREFILLING,
        SequenceStatus.DECODING: AgentStatus.DECODING,
    }.get(sequence.status, AgentStatus.QUEUED)


def _turn_of(sequence: Sequence, last_turn: LastTurn) -> LastTurn:
    if sequence.started_s is None:
        return last_turn
    return LastTurn(
        num_prompt_tokens=sequence.num_prompt_tokens,
        num_cached_tokens=sequence.num_cached_tokens,
        num_restored_tokens=sequence.num_restored_tokens,
        num_generated_tokens=sequence.num_generated_tokens,
        ttft_s=sequence.ttft_s if sequence.ttft_s is not None else last_turn.ttft_s,
        miss=sequence.last_miss,
    )


def _progress(sequence: Sequence | None) -> float:
    if sequence is None or not sequence.token_ids:
        return 1.0
    return sequence.num_computed_tokens / len(sequence.token_ids)
