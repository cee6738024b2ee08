"""Waiting for the disk to have an agent's whole cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.cache.agent import Agent
from engine.cache.lineage import SavedTable
from engine.persistence import Persistence

MAX_IDLE_ROUNDS = 3
"""So often the disk may acknowledge no more than before until it is not asked again."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """Somebody who waits for the disk.

    Attributes:
        agent: Whose cache it is about.
        done: Called once.
        seen: The disk's last acknowledgement that was looked at.
        num_idle_rounds: Acknowledgements that brought nothing.
    """

    agent: Agent
    done: Callable[[], None]
    seen: SavedTable | None
    num_idle_rounds: int = 0


class CacheFlush:
    """Offers caches to the disk until it has them. Belongs to the engine's thread.

    The disk takes only so many bytes at a time, so an offer may have to be repeated.
    """

    def __init__(self, persistence: Persistence) -> None:
        """Wires the parts.

        Args:
            persistence: Writes behind.
        """
        self._persistence = persistence
        self._waiting: list[_Waiting] = []

    def begin(self, agent: Agent, done: Callable[[], None]) -> None:
        """Offers what the disk has not got of an agent's cache.

        Args:
            agent: The agent.
            done: Called once the disk has acknowledged all of it, will not take more, or a turn
                of the agent has begun; at once if there is nothing to wait for.
        """
        if not self._persistence.tier.stats.is_on:
            done()
            return
        self._offer(agent)
        if self._is_whole(agent) or self._is_gone(agent):
            done()
        else:
            self._waiting.append(_Waiting(agent, done, agent.saved))

    def review(self) -> None:
        """Looks whether the disk has acknowledged something, or has stopped taking anything."""
        if not self._waiting:
            return
        over = [waiting for waiting in self._waiting if self._is_over(waiting)]
        # Taken off first: what they go on to do may begin something new.
        self._waiting = [waiting for waiting in self._waiting if waiting not in over]
        for waiting in over:
            waiting.done()

    def _is_over(self, waiting: _Waiting) -> bool:
        agent = waiting.agent
        if agent.num_active or not self._persistence.tier.stats.is_on or self._is_whole(agent):
            return True
        if agent.saved is waiting.seen:
            return False
        if not agent.block_table:
            return True  # acknowledged in part, and there is nothing left to offer
        is_more = _num_tokens(agent.saved) > _num_tokens(waiting.seen)
        waiting.seen = agent.saved
        waiting.num_idle_rounds += not is_more
        self._offer(agent)
        return waiting.num_idle_rounds >= MAX_IDLE_ROUNDS

    def _offer(self, agent: Agent) -> None:
        if agent.block_table:
            self._persistence.keep_agent(agent)

    def _is_gone(self, agent: Agent) -> bool:
        """Whether memory has nothing and nothing is on its way."""
        return not agent.block_table and agent.saving in (None, agent.saved)

    def _is_whole(self, agent: Agent) -> bool:
        """Whether the disk has acknowledged all that was offered to it, and has it still."""
        saved = agent.saved
        return (
            saved is not None
            and agent.saving == saved
            and all(map(self._persistence.tier.has, saved.block_hashes))
        )


def _num_tokens(table: SavedTable | None) -> int:
    return table.num_tokens if table is not None else 0
