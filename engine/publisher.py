"""Draws the engine's state into one frozen snapshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.block_map import BlockMap, BlockMapDrawer
from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache.last_turn import LastTurn
from engine.cache.lineage import is_end_there
from engine.cache.pool import BlockPool
from engine.persistence import Persistence
from engine.scheduler import Scheduler
from engine.sequence import Sequence, SequenceStatus
from engine.snapshot import (
    AgentRow,
    AgentStatus,
    BatchRow,
    BlockState,
    DiskRow,
    PoolRow,
    TurnRow,
    TurnTimes,
)

MAX_TURNS = 20
"""Turns in an agent's row."""
MAX_ROWS_REDRAWN = 32
"""So many rows of agents to whom nothing happened are drawn anew each time, beside as many of
those that were active last."""


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


def _num_known(agent: Agent) -> int:
    """Tokens of an agent's context that are not in memory any more."""
    return agent.saved.num_tokens if agent.saved else agent.num_evicted_tokens


def pool_row(pool: BlockPool, agents: AgentStore, blocks: BlockMap) -> PoolRow:
    """The block pool's counts and map."""
    num_used = pool.num_total_blocks - pool.num_free_blocks
    return PoolRow(
        block_bytes=pool.block_bytes,
        num_total_blocks=pool.num_total_blocks,
        num_free_blocks=pool.num_free_blocks,
        num_cached_blocks=pool.num_cached_blocks + pool.num_spare_blocks,
        num_shared_blocks=blocks.states.count(BlockState.SHARED),
        num_running_blocks=blocks.num_running,
        num_withheld_blocks=pool.num_withheld_blocks,
        num_evictions=agents.num_evictions,
        num_evicted_blocks=pool.num_evicted_blocks,
        bytes_used=num_used * pool.block_bytes,
        bytes_budget=pool.num_total_blocks * pool.block_bytes,
        block_states=blocks.states,
        block_owners=blocks.owners,
        block_tiers=blocks.tiers,
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
        num_evicted_blocks=stats.num_evicted,
        write_durations=stats.write_durations,
    )


def batch_row(scheduler: Scheduler, reading: StepReading, now_s: float) -> BatchRow:
    """The running batch."""
    waits = [now_s - s.arrival_s for s in scheduler.waiting if not s.agent.paused]
    return BatchRow(
        num_running=len(scheduler.running),
        num_waiting=len(waits),
        num_decoding=reading.num_decoding if scheduler.running else 0,
        slice_tokens=reading.slice_tokens,
        stall_ms=reading.stall_ms,
        stall_limit_ms=scheduler.limits.decode_stall_ms,
        oldest_wait_s=max(waits, default=0.0),
        prefilling=reading.prefilling,
        window_ms=scheduler.limits.batch_window_ms,
    )


class Publisher:
    """Draws the pool and the agents, anew where something changed. Belongs to the engine's thread.

    However many agents there are, only those that changed and a few others are looked at.
    """

    def __init__(
        self,
        pool: BlockPool,
        agents: AgentStore,
        scheduler: Scheduler,
        persistence: Persistence | None,
        max_context_tokens: Callable[[], int],
    ) -> None:
        """Starts with nothing drawn.

        Args:
            pool: The pool.
            agents: All agents.
            scheduler: Knows who runs and waits, and how long a prefill takes.
            persistence: Knows what is on disk; None without a warm tier.
            max_context_tokens: The longest context now.
        """
        self._pool = pool
        self._agents = agents
        self._scheduler = scheduler
        self._persistence = persistence
        self._max_context_tokens = max_context_tokens
        self._map = BlockMapDrawer(pool, persistence)
        self._rows: dict[Agent, AgentRow] = {}
        self._next_row = 0
        self._order: list[Agent] = []
        self._num_moves = -1

    def draw(self, reading: StepReading, now_s: float) -> tuple[PoolRow, tuple[AgentRow, ...]]:
        """The pool and all agents, most recently active first.

        Args:
            reading: What the last steps were like.
            now_s: Monotonic seconds.
        """
        if self._num_moves != self._agents.num_moves:
            self._num_moves = self._agents.num_moves
            self._order = list(self._agents)[::-1]
            self._map.number(self._order)
        order = self._order
        turns: dict[Agent, Sequence] = {}
        for sequence in self._scheduler:
            # Running ones come first.
            turns.setdefault(sequence.agent, sequence)
        blocks = self._map.draw(self._scheduler)
        for agent in self._due(order, turns):
            self._rows[agent] = self._row(agent, turns.get(agent), blocks, reading, now_s)
        if len(self._rows) > len(order):
            self._rows = {agent: self._rows[agent] for agent in order}
        rows = tuple(map(self._rows.__getitem__, order))
        return pool_row(self._pool, self._agents, blocks), rows

    def _due(self, order: list[Agent], turns: dict[Agent, Sequence]) -> set[Agent]:
        """Agents whose rows are to be drawn anew."""
        start = self._next_row if self._next_row < len(order) else 0
        self._next_row = start + MAX_ROWS_REDRAWN
        changed = self._agents.holdings.changed
        self._agents.holdings.changed = set()
        # Some of those that changed may be gone.
        gone = {a for a in changed if self._agents.find(a.agent_id, a.namespace) is not a}
        return (
            (changed - gone)
            | turns.keys()
            | set(order[:MAX_ROWS_REDRAWN] + order[start : self._next_row])
        )

    def _row(
        self,
        agent: Agent,
        sequence: Sequence | None,
        blocks: BlockMap,
        reading: StepReading,
        now_s: float,
    ) -> AgentRow:
        persistence, block_bytes = self._persistence, self._pool.block_bytes
        warm_bytes = persistence.warm_bytes(agent) if persistence else 0
        reads = persistence.ahead.reads if persistence else None
        owner = agent if sequence is None else sequence
        num_restoring = reads.num_tokens(owner) if reads else 0
        status = _status(agent, sequence, warm_bytes, num_restoring)
        turn = agent.last_turn if sequence is None else _turn_of(sequence, agent.last_turn)
        table = sequence.block_table if sequence and sequence.block_table else agent.block_table
        num_working = len(sequence.working_blocks) if sequence else 0
        num_slots = sum(block.num_slots for block in agent.block_table)
        decode_s = reading.decode_s
        prefilling = status is AgentStatus.PREFILLING and sequence is not None
        return AgentRow(
            agent_id=agent.agent_id,
            namespace=agent.namespace,
            protocol=agent.protocol,
            status=status,
            pinned=agent.pinned,
            paused=agent.paused,
            priority=agent.priority,
            num_context_tokens=(
                len(sequence.token_ids) if sequence else len(agent.token_ids) or _num_known(agent)
            ),
            max_context_tokens=self._max_context_tokens(),
            num_cached_tokens=turn.num_cached_tokens,
            num_restored_tokens=turn.num_restored_tokens,
            num_prompt_tokens=turn.num_prompt_tokens,
            num_generated_tokens=turn.num_generated_tokens,
            num_turns=agent.num_turns,
            hot_bytes=max(num_working, num_slots) * block_bytes,
            warm_bytes=warm_bytes,
            shared_bytes=blocks.num_shared(table) * block_bytes,
            decode_tok_s=1 / decode_s if status is AgentStatus.DECODING and decode_s else 0.0,
            prefill_progress=_progress(sequence) if prefilling else 1.0,
            eta_s=self._scheduler.prefill_eta_s(sequence.num_remaining_tokens)
            if prefilling and sequence
            else (reads.eta_s(owner, now_s) if reads else None),
            ttft_s=turn.ttft_s,
            wait_s=now_s - sequence.arrival_s if status is AgentStatus.QUEUED and sequence else 0.0,
            idle_s=now_s - agent.last_active_s if sequence is None else 0.0,
            num_restoring_tokens=num_restoring,
            miss=turn.miss,
            turns=self._turns(agent),
            times=sequence.timer.times(now_s) if sequence else TurnTimes(),
        )

    def _turns(self, agent: Agent) -> tuple[TurnRow, ...]:
        return tuple(
            TurnRow(
                number=mark.number,
                num_prompt_tokens=mark.num_prompt_tokens,
                num_context_tokens=mark.num_tokens,
                num_cached_tokens=mark.num_cached_tokens,
                ttft_s=mark.ttft_s,
                ended_time=mark.ended_time,
                miss=mark.miss,
                resumable=is_end_there(self._pool, self._agents.parent_on_disk, mark),
                times=mark.times,
            )
            for mark in list(agent.history)[-MAX_TURNS:]
        )


def _status(
    agent: Agent, sequence: Sequence | None, warm_bytes: int, num_restoring_tokens: int
) -> AgentStatus:
    if num_restoring_tokens or (sequence is not None and sequence.is_restoring):
        return AgentStatus.RESTORING
    if sequence is None:
        without_ram = AgentStatus.WARM if warm_bytes else AgentStatus.COLD
        at_rest = AgentStatus.TOOL_WAIT if agent.awaits_tools else AgentStatus.IDLE
        return at_rest if agent.block_table else without_ram
    return {
        SequenceStatus.PREFILLING: AgentStatus.PREFILLING,
        SequenceStatus.DECODING: AgentStatus.DECODING,
    }.get(sequence.status, AgentStatus.QUEUED)


def _turn_of(sequence: Sequence, last_turn: LastTurn) -> LastTurn:
    if sequence.started_s is None:
        return last_turn
    return LastTurn(
        num_generated_tokens=sequence.num_generated_tokens,
        ttft_s=sequence.ttft_s if sequence.ttft_s is not None else last_turn.ttft_s,
        miss=sequence.miss,
    )


def _progress(sequence: Sequence | None) -> float:
    if sequence is None or not sequence.token_ids:
        return 1.0
    return sequence.num_computed_tokens / len(sequence.token_ids)
