"""A scene that stands still: one snapshot, changed only by commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from engine.errors import AgentBusyError, AgentNotFoundError, NotOnDiskError
from engine.scripted_cast import ACTIVE, fork_name
from engine.snapshot import (
    NO_OWNER,
    AgentRow,
    AgentStatus,
    BlockState,
    EngineEvent,
    EngineSnapshot,
    EngineStatus,
)


class StillScene:
    """One snapshot that commands change as the engine would.

    Args:
        snapshot: The state to start from.
    """

    def __init__(self, snapshot: EngineSnapshot) -> None:
        self._shown = snapshot

    def advance(self, now_s: float) -> EngineSnapshot:
        """Shows the state; time does not move it."""
        return self._shown

    def evict(self, agent_id: str) -> int:
        """Drops an agent's cache; returns the bytes freed."""
        row = self._find_at_rest(agent_id, "evict")
        num_bytes = self._drop((row,))
        self.note("evict", f"{agent_id}: {num_bytes // 10**6}M freed by hand", "info")
        return num_bytes

    def evict_idle(self) -> int:
        """Drops the caches of all idle, unpinned agents; returns the bytes freed."""
        idle = tuple(
            row for row in self._shown.agents if row.status is AgentStatus.IDLE and not row.pinned
        )
        num_bytes = self._drop(idle)
        self.note("evict", f"{len(idle)} idle agents: {num_bytes // 10**6}M freed", "info")
        return num_bytes

    def warm(self, agent_id: str) -> int:
        """Brings an agent's cache back from disk; returns its tokens."""
        row = self._find_at_rest(agent_id, "warm")
        if row.warm_bytes <= row.hot_bytes:
            raise NotOnDiskError(agent_id)
        self._replace(dataclasses.replace(row, status=AgentStatus.IDLE, hot_bytes=row.warm_bytes))
        self._fill_blocks(self._shown.agents.index(self._find(agent_id)), row)
        self.note("restore", f"{agent_id}: {row.warm_bytes // 10**6}M from disk", "info")
        return row.num_context_tokens

    def fork(self, agent_id: str, fork_id: str | None) -> str:
        """Makes an agent that starts from another's cache; returns its id."""
        row = self._find_at_rest(agent_id, "fork")
        agents = self._shown.agents
        name = fork_name(agent_id, fork_id, [each.agent_id for each in agents])
        self._replace(dataclasses.replace(row, shared_bytes=row.hot_bytes))
        fork = AgentRow(
            agent_id=name,
            protocol=row.protocol,
            status=row.status,
            num_context_tokens=row.num_context_tokens,
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

    def _drop(self, rows: tuple[AgentRow, ...]) -> int:
        for row in rows:
            self._free_blocks(row)
            status = AgentStatus.WARM if row.warm_bytes else AgentStatus.COLD
            self._replace(dataclasses.replace(row, status=status, hot_bytes=0, shared_bytes=0))
        return sum(row.hot_bytes - row.shared_bytes for row in rows)

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
                num_free_blocks=num_free,
                num_shared_blocks=states.count(BlockState.SHARED),
                bytes_used=(pool.num_total_blocks - num_free) * pool.block_bytes,
            ),
        )
