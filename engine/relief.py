"""Making room in the pool, cheapest loss first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Protocol

from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache.block import KVBlock
from engine.cache.pool import BlockPool
from engine.sequence import Sequence
from engine.trace import Note

MAX_LOOKS = 64
"""So many of the oldest blocks are looked at for one that is on disk."""
MAX_AGENT_LOOKS = 8
"""And so many of the oldest agents."""


class Keeper(Protocol):
    """Has caches that memory may lose; the warm tier's keeping is one."""

    def has_block(self, block: KVBlock) -> bool:
        """Whether a block is safe."""

    def offer(self, block: KVBlock) -> None:
        """Makes a block safe, if it can be."""

    def has_agent(self, agent: Agent) -> bool:
        """Whether an agent's whole cache is safe."""

    def keep_agent(self, agent: Agent) -> None:
        """Makes an agent's cache safe, as far as it can be."""


class Relief:
    """Takes blocks from those who lose least by it. Belongs to the engine's thread.

    What the disk has goes first, and what it has not is handed to it before it goes. Nobody waits
    for the disk: a cache that it does not take is lost, and recomputed when it is wanted.
    """

    def __init__(self, pool: BlockPool, agents: AgentStore, note: Note) -> None:
        """Wires the parts.

        Args:
            pool: Where room is needed.
            agents: Whose caches may go.
            note: Takes events.
        """
        self._pool = pool
        self._agents = agents
        self._note = note
        self.keeper: Keeper | None = None
        pool.choose_victim = self._block_to_drop

    def make_room(self, num_blocks: int, others: Iterable[Sequence]) -> bool:
        """Makes blocks allocatable.

        In this order: blocks that nobody holds, those on disk first; second copies of what
        running sequences have in their own caches; the caches of idle agents, oldest first.
        Nothing that has no copy is thrown away before it is known to help.

        Args:
            num_blocks: How many are needed.
            others: Sequences whose second copies may go.

        Returns:
            False when there is no room.
        """
        if self._pool.can_allocate(num_blocks):
            return True
        if not self._agents.can_relieve(num_blocks):
            for sequence in others:
                self._give_up_copies(sequence)
            if not self._agents.can_relieve(num_blocks):
                return False
        while not self._pool.can_allocate(num_blocks):
            agent = self._agent_to_evict()
            if agent is None:
                return False
            self._evict(agent, "oldest, for room")
        return True

    def clear(self, waiting: Iterable[Sequence]) -> None:
        """Gives up all that nobody pinned, for a turn that would have to be refused otherwise.

        Agents whose turns wait are not idle, and may keep each other out with what they hold.

        Args:
            waiting: Sequences whose turn comes later; their agents' caches go too.
        """
        for sequence in waiting:
            self._pool.release_table(sequence.restored)
            sequence.restored = []
            agent = sequence.agent
            if agent.block_table and not agent.pinned:
                if self.keeper is not None:
                    self._is_made_safe(agent)
                self._tell(
                    agent, len(agent.token_ids), f"{len(agent.token_ids)} tokens", "for room"
                )
                self._agents.store(agent, [], ())
        while (idle := self._agent_to_evict()) is not None:
            self._evict(idle, "oldest, for room")

    def shrink(self) -> None:
        """Evicts idle agents, oldest first, until the pool holds no more than it may."""
        while self._pool.num_allocatable_blocks < 0:
            agent = self._agent_to_evict()
            if agent is None:
                return
            self._evict(agent, "memory is short")

    def would_do(self, num_blocks: int, given_up: Iterable[KVBlock]) -> bool:
        """Whether there would be room if some holds were given up first.

        Args:
            num_blocks: How many are needed.
            given_up: Blocks, once for each hold of them that would go.
        """
        holds = Counter(block.block_id for block in given_up)
        freed = {b.block_id: b for b in given_up if b.ref_count == holds[b.block_id]}
        num_freed = sum(block.num_slots for block in freed.values())
        return self._agents.can_relieve(num_blocks - num_freed)

    def _give_up_copies(self, sequence: Sequence) -> None:
        self._pool.release_table(sequence.block_table)
        self._pool.release_table(sequence.restored)
        sequence.block_table = []
        sequence.restored = []
        if sequence.caches is not None:
            # What matched of its agent's last cache is in its own; at its end that is kept.
            self._agents.store(sequence.agent, [], ())

    def _block_to_drop(self, cached: Iterable[KVBlock]) -> KVBlock:
        """The oldest block that nobody holds and that is safe; else the oldest one."""
        oldest = list(islice(cached, MAX_LOOKS))
        if self.keeper is None:
            return oldest[0]
        safe = next(filter(self.keeper.has_block, oldest), None)
        if safe is None:
            self.keeper.offer(oldest[0])
        return safe or oldest[0]

    def _agent_to_evict(self) -> Agent | None:
        """The oldest idle agent whose cache is safe, or can be made so; else the oldest one."""
        oldest = list(islice(self._agents.evictable(), MAX_AGENT_LOOKS))
        if self.keeper is None or not oldest:
            return oldest[0] if oldest else None
        return next(filter(self._is_made_safe, oldest), oldest[0])

    def _is_made_safe(self, agent: Agent) -> bool:
        assert self.keeper is not None
        if not self.keeper.has_agent(agent):
            self.keeper.keep_agent(agent)
        return self.keeper.has_agent(agent)

    def _evict(self, agent: Agent, reason: str) -> None:
        """Takes the cache of the agent that was active longest ago."""
        num_tokens = len(agent.token_ids)
        num_bytes = self._agents.evict(agent)
        size = f"{num_tokens} tokens, {num_bytes / 1e6:.0f} MB"
        self._tell(agent, num_tokens, size, reason)

    def _tell(self, agent: Agent, num_tokens: int, size: str, reason: str) -> None:
        self._note(
            "evict",
            f"{agent.agent_id}: {size} ({reason})",
            agent=agent.agent_id,
            num_tokens=num_tokens,
            reason=reason,
        )
