"""What agents hold, and who of them may lose it: accounts kept as things change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.cache.pool import BlockPool

if TYPE_CHECKING:
    from engine.cache.agent import Agent


class Holdings:
    """Files agents under what may be done with them, and tells the pool.

    Each change costs as much as the table of the agent that changed, however many others there
    are.
    """

    def __init__(self, pool: BlockPool) -> None:
        """Starts without agents.

        Args:
            pool: Told which blocks idle and pinned agents hold.
        """
        self.changed: set[Agent] = set()
        """Agents that changed since somebody cleared this; for who draws them."""
        self._pool = pool
        self._evictable: OrderedDict[Agent, None] = OrderedDict()
        self._forgettable: OrderedDict[Agent, None] = OrderedDict()

    def evictable(self) -> Iterator[Agent]:
        """Idle, unpinned agents with a cache, least recently active first."""
        return iter(self._evictable)

    @property
    def oldest_forgettable(self) -> Agent | None:
        """The idle, unmarked agent that has been without a cache for longest."""
        return next(iter(self._forgettable), None)

    @contextmanager
    def changing(self, agent: Agent) -> Iterator[None]:
        """Around every change of an agent's table, marks, turns in progress or last activity."""
        self.remove(agent)
        yield
        self.add(agent)

    def remove(self, agent: Agent) -> None:
        """Takes an agent out of the accounts."""
        if agent in self._evictable:
            del self._evictable[agent]
            self._pool.unmark_idle(agent.block_table)
        elif agent.pinned:
            self._pool.mark_pinned(agent.block_table, -1)
        self._forgettable.pop(agent, None)

    def add(self, agent: Agent) -> None:
        """Takes an agent into the accounts as it is now."""
        self.changed.add(agent)
        if agent.evictable:
            self._pool.mark_idle(agent.block_table)
            self._queue(agent)
        elif agent.pinned:
            self._pool.mark_pinned(agent.block_table, +1)
        elif agent.forgettable:
            self._forgettable[agent] = None

    def _queue(self, agent: Agent) -> None:
        newest = next(reversed(self._evictable), None)
        self._evictable[agent] = None
        if newest is not None and newest.last_active_s > agent.last_active_s:
            # One that was unpinned, warmed or forked by hand goes where its age belongs.
            by_age = sorted(self._evictable, key=lambda each: each.last_active_s)
            self._evictable = OrderedDict.fromkeys(by_age)
