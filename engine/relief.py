"""Making room in the pool, cheapest loss first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from engine.cache.agents import Agent, AgentStore
from engine.cache.block import KVBlock
from engine.cache.pool import BlockPool
from engine.sequence import Sequence

Note = Callable[[str, str], None]
"""Takes an event: kind and text."""


class Relief:
    """Takes blocks from those who lose least by it. Belongs to the engine's thread."""

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

    def make_room(self, num_blocks: int, others: Iterable[Sequence]) -> bool:
        """Makes blocks allocatable.

        In this order: blocks that nobody holds; second copies of what running sequences have in
        their own caches; the caches of idle agents, oldest first. Nothing that has no copy is
        thrown away before it is known to help.

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
            agent = self._agents.oldest_evictable()
            if agent is None:
                return False
            self._evict(agent)
        return True

    def would_do(self, num_blocks: int, given_up: Iterable[KVBlock]) -> bool:
        """Whether there would be room if some holds were given up first.

        Args:
            num_blocks: How many are needed.
            given_up: Blocks, once for each hold of them that would go.
        """
        holds = Counter(block.block_id for block in given_up)
        freed = {block.block_id for block in given_up if block.ref_count == holds[block.block_id]}
        return self._agents.can_relieve(num_blocks - len(freed))

    def _give_up_copies(self, sequence: Sequence) -> None:
        self._pool.release_table(sequence.block_table)
        self._pool.release_table(sequence.restored)
        sequence.block_table = []
        sequence.restored = []
        if sequence.caches is not None:
            # What matched of its agent's last cache is in its own; at its end that is kept.
            self._agents.store(sequence.agent, [], ())

    def _evict(self, agent: Agent) -> None:
        """Takes the cache of the agent that was active longest ago."""
        num_tokens = len(agent.token_ids)
        num_bytes = self._agents.evict(agent)
        self._note(
            "evict",
            f"{agent.agent_id}: {num_tokens} tokens, {num_bytes / 1e6:.0f} MB (oldest, for room)",
        )
