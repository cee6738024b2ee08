"""A scene that stands still: one snapshot, changed only by commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from engine.agent_commands import AgentText, Eviction, ExportedAgent, ImportedAgent
from engine.errors import AgentBusyError, AgentNotFoundError, NoCacheError, NotOnDiskError
from engine.scripted_cast import (
    ACTIVE,
    BLOCK_BYTES,
    BLOCK_TOKENS,
    MAX_CONTEXT_TOKENS,
    RUNNING,
    check_free,
    fork_name,
    turn_at,
)
from engine.scripted_file import ScriptedAgent, read_agent, write_agent
from engine.scripted_speech import scripted_text
from engine.scripted_stage import tiers_of
from engine.scripted_still_models import StillModels
from engine.snapshot import (
    NO_OWNER,
    AgentRow,
    AgentStatus,
    BlockState,
    EngineEvent,
    EngineSnapshot,
    EngineStatus,
)
from engine.turn_limits import check_batch_window, check_priority


class StillScene(StillModels):
    """One snapshot that commands change as the engine would.

    Args:
        snapshot: The state to start from.
    """

    def __init__(self, snapshot: EngineSnapshot) -> None:
        throughput = dataclasses.replace(snapshot.throughput, pool_use=snapshot.pool.use)
        super().__init__(dataclasses.replace(snapshot, throughput=throughput))

    def advance(self, now_s: float) -> EngineSnapshot:
        """Shows the state; time does not move it."""
        return self._shown

    def evict(self, agent_id: str) -> Eviction:
        """Drops an agent's cache."""
        row = self._find_at_rest(agent_id, "evict")
        eviction = self._drop((row,))
        self.note("evict", f"{agent_id}: {eviction.freed_bytes // 10**6}M freed by hand", "info")
        return eviction

    def evict_idle(self) -> Eviction:
        """Drops the caches of all idle, unpinned agents."""
        idle = tuple(
            row for row in self._shown.agents if row.status is AgentStatus.IDLE and not row.pinned
        )
        total = self._drop(idle)
        self.note("evict", f"{len(idle)} idle agents: {total.freed_bytes // 10**6}M freed", "info")
        return total

    def warm(self, agent_id: str) -> int:
        """Brings an agent's cache back from disk; returns its tokens."""
        row = self._find_at_rest(agent_id, "warm")
        if row.warm_bytes <= row.hot_bytes:
            raise NotOnDiskError(agent_id, is_in_memory=row.hot_bytes > 0)
        self._replace(dataclasses.replace(row, status=AgentStatus.IDLE, hot_bytes=row.warm_bytes))
        self._fill_blocks(self._shown.agents.index(self._find(agent_id)), row)
        self.note("restore", f"{agent_id}: {row.warm_bytes // 10**6}M from disk", "info")
        return row.num_context_tokens

    def fork(self, agent_id: str, fork_id: str | None, turn: int | None = None) -> str:
        """Makes an agent that starts from another's cache; returns its id."""
        row = self._find_at_rest(agent_id, "fork")
        place = turn_at(agent_id, row.turns, turn) if turn is not None else None
        agents = self._shown.agents
        name = fork_name(agent_id, fork_id, [each.agent_id for each in agents])
        self._replace(dataclasses.replace(row, shared_bytes=row.hot_bytes))
        fork = AgentRow(
            agent_id=name,
            protocol=row.protocol,
            status=row.status,
            num_context_tokens=place.num_context_tokens if place else row.num_context_tokens,
            max_context_tokens=row.max_context_tokens,
            hot_bytes=row.hot_bytes,
            warm_bytes=row.warm_bytes,
            shared_bytes=row.hot_bytes,
        )
        self._shown = dataclasses.replace(self._shown, agents=(*self._shown.agents, fork))
        self._share_blocks(agents.index(row))
        self.note("fork", f"{name} from {agent_id}", "info")
        return name

    def pin(self, agent_id: str, pinned: bool) -> bool:
        """Pins or unpins an agent."""
        self._replace(dataclasses.replace(self._find(agent_id), pinned=pinned))
        self.note("pin", f"{agent_id} {'pinned' if pinned else 'unpinned'}", "info")
        return pinned

    def pause(self, agent_id: str, paused: bool) -> bool:
        """Lets no turn of an agent go on, or lets them go on again."""
        row = dataclasses.replace(self._find(agent_id), paused=paused)
        if paused and row.status in RUNNING:
            row = dataclasses.replace(
                row, status=AgentStatus.QUEUED, decode_tok_s=0.0, prefill_progress=1.0, eta_s=None
            )
        self._replace(row)
        self.note("pause" if paused else "resume", agent_id, "info")
        return paused

    def set_priority(self, agent_id: str, priority: int) -> int:
        """Lets an agent's turns go ahead of others', or behind them."""
        check_priority(priority)
        self._replace(dataclasses.replace(self._find(agent_id), priority=priority))
        self.note("priority", f"{agent_id}: {priority:+d}", "info")
        return priority

    def set_batch_window(self, window_ms: float) -> float:
        """Changes the batch window."""
        batch = dataclasses.replace(self._shown.batch, window_ms=check_batch_window(window_ms))
        self._shown = dataclasses.replace(self._shown, batch=batch)
        self.note("batch", f"window {window_ms:g} ms", "info")
        return window_ms

    def abort(self, agent_id: str) -> int:
        """Ends an agent's turn if it has one; returns how many ended."""
        row = self._find(agent_id)
        if row.status not in ACTIVE:
            return 0
        self._replace(
            dataclasses.replace(
                row, status=AgentStatus.IDLE, decode_tok_s=0.0, prefill_progress=1.0, eta_s=None
            )
        )
        self.note("abort", f"{agent_id} after {row.num_generated_tokens} tokens", "warning")
        return 1

    def read(self, agent_id: str, *, with_reply: bool) -> AgentText:
        """What an agent is saying."""
        row = self._find(agent_id)
        is_heard = with_reply and row.status in RUNNING
        return scripted_text(row.miss, row.num_generated_tokens if is_heard else None)

    def remove(self, agent_id: str) -> int:
        """Forgets an agent; returns the bytes freed."""
        row = self._find_at_rest(agent_id, "remove")
        freed_bytes = self._drop((row,)).freed_bytes
        gone = self._shown.agents.index(self._find(agent_id))

        def moved_up(state: int, at: int) -> tuple[int, int]:
            if at == NO_OWNER or at < gone:
                return state, at
            return state, (NO_OWNER if at == gone else at - 1)

        self._map_blocks(moved_up)
        rest = tuple(each for each in self._shown.agents if each.agent_id != agent_id)
        self._shown = dataclasses.replace(self._shown, agents=rest)
        self.note("remove", f"{agent_id}: {freed_bytes // 10**6}M freed", "info")
        return freed_bytes

    def export(self, agent_id: str, path: Path) -> ExportedAgent:
        """Writes an agent into a file."""
        row = self._find_at_rest(agent_id, "export")
        if not row.hot_bytes and not row.warm_bytes:
            raise NoCacheError(agent_id, "export")
        agent = ScriptedAgent(
            agent_id=agent_id,
            protocol=row.protocol,
            num_tokens=row.num_context_tokens,
            num_turns=row.num_turns,
        )
        exported = write_agent(agent, path)
        self.note("export", f"{agent_id}: {agent.num_tokens} tokens to a file", "info")
        return exported

    def take_in(self, path: Path, agent_id: str | None) -> ImportedAgent:
        """Takes an agent in from a file."""
        agent = read_agent(path)
        taken = [row.agent_id for row in self._shown.agents]
        name = check_free(agent_id or agent.agent_id, taken)
        row = AgentRow(
            agent_id=name,
            protocol=agent.protocol,
            status=AgentStatus.WARM,
            num_context_tokens=agent.num_tokens,
            max_context_tokens=MAX_CONTEXT_TOKENS,
            num_turns=agent.num_turns,
            warm_bytes=-(-agent.num_tokens // BLOCK_TOKENS) * BLOCK_BYTES,
        )
        self._shown = dataclasses.replace(self._shown, agents=(*self._shown.agents, row))
        self.note("import", f"{name}: {agent.num_tokens} tokens from a file", "info")
        return ImportedAgent(agent_id=name, num_tokens=agent.num_tokens)

    def note(self, kind: str, text: str, level: str) -> None:
        """Adds an event."""
        events = self._shown.events
        event = EngineEvent(
            number=events[-1].number + 1 if events else 1,
            time=self._shown.time,
            kind=kind,
            text=text,
            level=level,
        )
        self._shown = dataclasses.replace(
            self._shown, events=(*events, event), step=self._shown.step + 1
        )

    def shut_down(self, drain_s: float) -> None:
        """Stops at once."""
        self._shown = dataclasses.replace(self._shown, status=EngineStatus.STOPPED)

    def _find(self, agent_id: str) -> AgentRow:
        row = self._shown.agent(agent_id)
        if row is None:
            raise AgentNotFoundError(agent_id)
        return row

    def _find_at_rest(self, agent_id: str, action: str) -> AgentRow:
        row = self._find(agent_id)
        if row.status in ACTIVE:
            raise AgentBusyError(agent_id, action)
        return row

    def _replace(self, new: AgentRow) -> None:
        agents = tuple(new if row.agent_id == new.agent_id else row for row in self._shown.agents)
        self._shown = dataclasses.replace(self._shown, agents=agents)

    def _drop(self, rows: tuple[AgentRow, ...]) -> Eviction:
        for row in rows:
            self._free_blocks(row)
            status = AgentStatus.WARM if row.warm_bytes else AgentStatus.COLD
            self._replace(dataclasses.replace(row, status=status, hot_bytes=0, shared_bytes=0))
        in_memory = [row for row in rows if row.hot_bytes]
        return Eviction(
            freed_bytes=sum(row.hot_bytes - row.shared_bytes for row in rows),
            num_tokens=sum(row.num_context_tokens for row in in_memory),
            num_disk_tokens=sum(
                round(row.num_context_tokens * min(1.0, row.warm_bytes / row.hot_bytes))
                for row in in_memory
            ),
        )

    def _free_blocks(self, row: AgentRow) -> None:
        owner = self._shown.agents.index(row)

        def freed(state: int, at: int) -> tuple[int, int]:
            is_own = at == owner and state != BlockState.SHARED
            return (BlockState.FREE, NO_OWNER) if is_own else (state, at)

        self._map_blocks(freed)

    def _share_blocks(self, owner: int) -> None:
        def shared(state: int, at: int) -> tuple[int, int]:
            return (BlockState.SHARED if at == owner else state), at

        self._map_blocks(shared)

    def _fill_blocks(self, owner: int, row: AgentRow) -> None:
        num_left = (row.warm_bytes - row.hot_bytes) // self._shown.pool.block_bytes

        def filled(state: int, at: int) -> tuple[int, int]:
            nonlocal num_left
            if state != BlockState.FREE or not num_left:
                return state, at
            num_left -= 1
            return BlockState.HOT, owner

        self._map_blocks(filled)

    def _map_blocks(self, change: Callable[[int, int], tuple[int, int]]) -> None:
        pool = self._shown.pool
        changed = [
            change(state, owner)
            for state, owner in zip(pool.block_states, pool.block_owners, strict=True)
        ]
        states = bytes(state for state, _ in changed)
        num_free = states.count(BlockState.FREE)
        self._shown = dataclasses.replace(
            self._shown,
            pool=dataclasses.replace(
                pool,
                block_states=states,
                block_owners=bytes(owner for _, owner in changed),
                block_tiers=tiers_of(states),
                num_free_blocks=num_free,
                num_shared_blocks=states.count(BlockState.SHARED),
                bytes_used=(pool.num_total_blocks - num_free) * pool.block_bytes,
            ),
        )
