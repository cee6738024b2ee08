"""Where a sequence's KV lives: blocks of the pool become its cache, its cache becomes blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from engine.cache.agents import Agent, AgentStore, explain_miss
from engine.cache.block import BLOCK_TOKENS, KVBlock, blocks_for, chain_hashes
from engine.cache.pool import BlockPool
from engine.cache.prefix import PrefixMatch, match_prefix
from engine.sequence import Sequence

Note = Callable[[str, str], None]
"""Takes an event: kind and text."""


class CacheMover(Protocol):
    """Moves KV between a sequence's own cache and block payloads; the model runner is one."""

    def new_cache(self) -> Any:
        """An empty cache for one sequence."""

    def restore(
        self, payloads: list[object], num_last_tokens: int, num_capacity_tokens: int
    ) -> Any:
        """A sequence's cache from block payloads."""

    def append_block(self, caches: Any, payload: object) -> None:
        """Appends a block to a sequence's cache."""

    def cut_block(self, caches: Any, index: int) -> object:
        """Copies a full block out of a sequence's cache."""

    def cut_tail(self, caches: Any, num_tokens: int) -> object:
        """Copies what follows the last full block."""


class Residency:
    """Finds, makes and keeps room for sequences. Belongs to the engine's thread."""

    def __init__(
        self,
        pool: BlockPool,
        agents: AgentStore,
        mover: CacheMover,
        root_hash: bytes,
        *,
        reuses: bool,
        note: Note,
    ) -> None:
        """Wires the parts.

        Args:
            pool: Pays for everything.
            agents: Hold caches between turns.
            mover: Moves the KV.
            root_hash: Parent of every first block.
            reuses: Whether the model's cache may be cut and restored.
            note: Takes events.
        """
        self._pool = pool
        self._agents = agents
        self._mover = mover
        self._root_hash = root_hash
        self._reuses = reuses
        self._note = note

    @property
    def num_pinned_blocks(self) -> int:
        """Distinct blocks that pinned agents hold, and that nothing can reclaim."""
        return len({b.block_id for a in self._agents if a.pinned for b in a.block_table})

    def can_ever_hold(self, num_tokens: int) -> bool:
        """Whether a sequence of that length fits once everything that may go is gone."""
        return blocks_for(num_tokens) <= self._pool.num_total_blocks - self.num_pinned_blocks

    def admit(self, sequence: Sequence, running: Iterable[Sequence]) -> bool:
        """Makes room for a sequence and restores what is known of it.

        Args:
            sequence: A waiting sequence.
            running: Those that run; their shared holds may be given up, they themselves not.

        Returns:
            False when there is no room now; then nothing has changed for the sequence.
        """
        num_needed = sequence.num_missing_blocks
        agent = sequence.agent
        sequence.hashes = chain_hashes(self._root_hash, sequence.token_ids) if self._reuses else []
        match = self._match(sequence)
        held = [self._pool.acquire(block) for block in match.blocks]
        if not self._relieve(num_needed, running):
            self._pool.release_table(held)
            return False
        sequence.block_table = held
        sequence.working_blocks += [self._pool.allocate() for _ in range(num_needed)]
        sequence.caches = self._restore(match, len(sequence.token_ids))
        sequence.num_computed_tokens = match.num_tokens
        if sequence.num_generated_tokens == 0:
            sequence.num_cached_tokens = match.num_tokens
            sequence.last_miss = explain_miss(agent, sequence.token_ids, match.num_tokens)
        return True

    def _match(self, sequence: Sequence) -> PrefixMatch:
        if not self._reuses:
            return PrefixMatch()
        own = sequence.agent.block_table
        return match_prefix(self._pool, sequence.hashes, sequence.token_ids, own)

    def _restore(self, match: PrefixMatch, num_capacity_tokens: int) -> Any:
        if match.num_tokens == 0:
            return self._mover.new_cache()
        payloads = [block.payload for block in match.blocks]
        num_last_tokens = BLOCK_TOKENS
        if match.partial is not None:
            payloads.append(match.partial.payload)
            num_last_tokens = match.num_partial_tokens
        return self._mover.restore(payloads, num_last_tokens, num_capacity_tokens)

    def grow(self, sequence: Sequence, running: Iterable[Sequence]) -> bool:
        """Pays for the tokens a sequence has now; False when there is no room."""
        num_needed = sequence.num_missing_blocks
        if not self._relieve(num_needed, running):
            return False
        sequence.working_blocks += [self._pool.allocate() for _ in range(num_needed)]
        return True

    def _relieve(self, num_blocks: int, running: Iterable[Sequence]) -> bool:
        """Makes blocks allocatable, cheapest loss first."""
        if self._pool.can_allocate(num_blocks):
            return True
        if not self._agents.can_relieve(num_blocks):
            # A running sequence has its own copy, so giving up its holds loses nothing yet.
            for sequence in running:
                self._pool.release_table(sequence.block_table)
                sequence.block_table = []
            # Nothing is thrown away before it is known to help.
            if not self._agents.can_relieve(num_blocks):
                return False
        while not self._pool.can_allocate(num_blocks):
            agent = self._agents.oldest_evictable()
            if agent is None:
                return False
            self._evict_for_room(agent)
        return True

    def _evict_for_room(self, agent: Agent) -> None:
        """Takes the cache of the agent that was active longest ago."""
        num_tokens = len(agent.token_ids)
        num_bytes = self._agents.evict(agent)
        self._note(
            "evict",
            f"{agent.agent_id}: {num_tokens} tokens, {num_bytes / 1e6:.0f} MB (oldest, for room)",
        )

    def skip_known_blocks(self, sequence: Sequence) -> int:
        """Appends blocks that others have computed since the sequence was admitted.

        Returns:
            How many tokens were taken from the pool.
        """
        num_skipped = 0
        while self._reuses and sequence.num_computed_tokens % BLOCK_TOKENS == 0:
            index = sequence.num_computed_tokens // BLOCK_TOKENS
            if sequence.num_remaining_tokens <= BLOCK_TOKENS or index >= len(sequence.hashes):
                break
            block = self._pool.lookup(sequence.hashes[index])
            if block is None:
                break
            self._mover.append_block(sequence.caches, block.payload)
            self._hold(sequence, index, self._pool.acquire(block))
            sequence.num_computed_tokens += BLOCK_TOKENS
            num_skipped += BLOCK_TOKENS
        return num_skipped

    def share_computed_block(self, sequence: Sequence) -> None:
        """Publishes the block a sequence has just completed, if a free one can be had for it."""
        index, rest = divmod(sequence.num_computed_tokens, BLOCK_TOKENS)
        if rest or not self._reuses or not self._pool.can_allocate(1):
            return
        index -= 1
        if len(sequence.block_table) != index or index >= len(sequence.hashes):
            return
        block = self._pool.lookup(sequence.hashes[index])
        if block is not None:
            sequence.block_table.append(self._pool.acquire(block))
            return
        payload = self._mover.cut_block(sequence.caches, index)
        block = self._seal(self._pool.allocate(), sequence, index, payload)
        sequence.block_table.append(block)

    def _hold(self, sequence: Sequence, index: int, block: KVBlock) -> None:
        """Adds a hold to the sequence's table, unless an earlier one was given up."""
        if len(sequence.block_table) == index:
            sequence.block_table.append(block)
        else:
            self._pool.release(block)

    def _seal(self, block: KVBlock, sequence: Sequence, index: int, payload: object) -> KVBlock:
        start = index * BLOCK_TOKENS
        token_ids = tuple(sequence.token_ids[start : start + BLOCK_TOKENS])
        return self._pool.seal(block, sequence.hashes[index], token_ids, payload)

    def keep(self, sequence: Sequence) -> None:
        """Turns a finished sequence's cache into its agent's blocks.

        An agent that had more than the sequence got to compute keeps what it had.
        """
        agent = sequence.agent
        num_tokens = sequence.num_computed_tokens
        if self._reuses and num_tokens > 0 and not self._agent_has_more(agent, sequence):
            table = self._to_blocks(sequence, num_tokens)
            self._agents.store(agent, table, tuple(sequence.token_ids[:num_tokens]))
        self.release(sequence)

    def _agent_has_more(self, agent: Agent, sequence: Sequence) -> bool:
        num_tokens = sequence.num_computed_tokens
        known = agent.token_ids
        return len(known) > num_tokens and known[:num_tokens] == tuple(
            sequence.token_ids[:num_tokens]
        )

    def _to_blocks(self, sequence: Sequence, num_tokens: int) -> list[KVBlock]:
        """Blocks for the sequence's computed tokens, paid for by its working blocks."""
        num_full, num_tail = divmod(num_tokens, BLOCK_TOKENS)
        sequence.hashes = chain_hashes(self._root_hash, sequence.token_ids[:num_tokens])
        table, sequence.block_table = sequence.block_table, []
        for index in range(len(table), num_full):
            table.append(self._to_block(sequence, index))
        if num_tail:
            tail = sequence.working_blocks.pop()
            tail.token_ids = tuple(sequence.token_ids[num_full * BLOCK_TOKENS : num_tokens])
            tail.payload = self._mover.cut_tail(sequence.caches, num_tokens)
            table.append(tail)
        return table

    def _to_block(self, sequence: Sequence, index: int) -> KVBlock:
        known = self._pool.lookup(sequence.hashes[index])
        if known is not None:
            return self._pool.acquire(known)
        payload = self._mover.cut_block(sequence.caches, index)
        return self._seal(sequence.working_blocks.pop(), sequence, index, payload)

    def preempt(self, sequence: Sequence) -> None:
        """Takes a running sequence's room away; what it computed stays reusable for a while."""
        if self._reuses and sequence.num_computed_tokens > 0:
            table = self._to_blocks(sequence, sequence.num_computed_tokens)
            self._pool.release_table(table)
        self.release(sequence)
        sequence.num_computed_tokens = 0

    def release(self, sequence: Sequence) -> None:
        """Gives back everything a sequence holds."""
        self._pool.release_table(sequence.block_table)
        self._pool.release_table(sequence.working_blocks)
        sequence.block_table = []
        sequence.working_blocks = []
        sequence.caches = None
