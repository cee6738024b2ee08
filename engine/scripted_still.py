"""A scene that stands still: one snapshot, changed only by commands."""

from __future__ import annotations

import dataclasses

from engine.errors import AgentBusyError, AgentNotFoundError
from engine.scripted_cast import ACTIVE
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
        row = self._find(agent_id)
        if row.status in ACTIVE:
            raise AgentBusyError(agent_id, "evict")
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

    def _replace(self, new: AgentRow) -> None:
        agents = tuple(new if row.agent_id == new.agent_id else row for row in self._shown.agents)
        self._shown = dataclasses.replace(self._shown, agents=agents)

    def _drop(self, rows: tuple[AgentRow, ...]) -> int:
        for row in rows:
            self._free_blocks(row)
            self._replace(
                dataclasses.replace(row, status=AgentStatus.COLD, hot_bytes=0, shared_bytes=0)
            )
        return sum(row.hot_bytes - row.shared_bytes for row in rows)

    def _free_blocks(self, row: AgentRow) -> None:
        pool, owner = self._shown.pool, self._shown.agents.index(row)
        states, owners = bytearray(pool.block_states), bytearray(pool.block_owners)
        for block, at in enumerate(owners):
            if at == owner and states[block] != BlockState.SHARED:
                states[block], owners[block] = BlockState.FREE, NO_OWNER
        num_free = states.count(BlockState.FREE)
        self._shown = dataclasses.replace(
            self._shown,
            pool=dataclasses.replace(
                pool,
                block_states=bytes(states),
                block_owners=bytes(owners),
                num_free_blocks=num_free,
                bytes_used=(pool.num_total_blocks - num_free) * pool.block_bytes,
            ),
        )
