"""What was evicted by hand and may still be brought back. Pure."""

from __future__ import annotations

from collections import deque

from app.dashboard.questions import BUSY, is_warmable
from engine.snapshot import AgentRow, EngineSnapshot

MAX_REMEMBERED = 32


class Evictions:
    """The last evictions by hand, newest first to be undone."""

    def __init__(self) -> None:
        self._past: deque[tuple[tuple[str, str], ...]] = deque(maxlen=MAX_REMEMBERED)

    def add(self, keys: tuple[tuple[str, str], ...]) -> None:
        """Remembers an eviction by the agents that lost their caches."""
        self._past.append(keys)

    def take_back(self, snapshot: EngineSnapshot) -> list[AgentRow]:
        """The agents of the newest eviction that can be undone, which is then forgotten.

        An agent that has had a turn since, or has gone, or of which the disk has no more than
        memory, is passed over; so is an eviction that has none but such.
        """
        while self._past:
            rows = [snapshot.agent(agent_id, namespace) for namespace, agent_id in self._past.pop()]
            found = [
                row
                for row in rows
                if row is not None and row.status not in BUSY and is_warmable(row)
            ]
            if found:
                return found
        return []
