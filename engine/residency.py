"""Where a sequence's KV lives: blocks of the pool become its cache, its cache becomes blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from engine.cache.agents import Agent, AgentStore, explain_miss
from engine.cache.block import BLOCK_TOKENS, KVBlock, blocks_for, chain_hashes
from engine.cache.pool import BlockPool
from engine.cache.prefix import PrefixMatch, match_prefix
from engine.relief import Relief
from engine.sequence import Sequence

Sealed = Callable[[KVBlock, bytes], None]
"""Told of every block that got its content, with the hash of the block before it."""


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
        relief: Relief,
        root_hash: bytes,
        *,
        reuses: bool,
    ) -> None:
        """Wires the parts.

        Args:
            pool: Pays for everything.
            agents: Hold caches between turns.
            mover: Moves the KV.
            relief: Makes room.
            root_hash: Parent of every first block.
            reuses: Whether the model's cache may be cut and restored.
        """
        self._pool = pool
        self._agents = agents
        self._mover = mover
        self._root_hash = root_hash
        self._reuses = reuses
        self.relief = relief
        self.on_sealed: Sealed = _nobody

    def can_ever_hold(self, num_tokens: int, agent_id: str | None) -> bool:
        """Whether a sequence of that length fits once everything that may go is gone.

        Args:
            num_tokens: Its length.
            agent_id: Whose it is; what that agent itself has pinned is not in the way.
        """
        pinned = {
            block.block_id
            for agent in self._agents
            if agent.pinned and agent.agent_id != agent_id
            for block in agent.block_table
        }
        return blocks_for(num_tokens) <= self._pool.num_total_blocks - len(pinned)

    def admit(self, sequence: Sequence, sequences: Iterable[Sequence]) -> bool:
        """Makes room for a sequence and restores what is known of it.

        Args:
            sequence: A waiting sequence.
            sequences: All sequences; second copies that the others hold may be given up.

        Returns:
            False when there is no room now; then nothing has changed for the sequence.
        """
        num_needed = sequence.num_missing_blocks
        sequence.hashes = chain_hashes(self._root_hash, sequence.token_ids) if self._reuses else []
        match = self._match(sequence)
        sequence.block_table = [self._pool.acquire(block) for block in match.blocks]
        others = [other for other in sequences if other is not sequence]
        if self.relief.make_room(num_needed, others):
            caches = self._restore(match, len(sequence.token_ids))
        else:
            caches = self._restore_in_place(sequence, match, num_needed)
            if caches is None:
                self._pool.release_table(sequence.block_table)
                sequence.block_table = []
                return False
        sequence.working_blocks += [self._pool.allocate() for _ in range(num_needed)]
        sequence.caches = caches
        self._pool.release_table(sequence.restored)
        sequence.restored = []
        sequence.num_computed_tokens = match.num_tokens
        if sequence.num_generated_tokens == 0:
            sequence.num_cached_tokens = match.num_tokens
            sequence.last_miss = explain_miss(sequence.agent, sequence.token_ids, match.num_tokens)
        return True

    def _restore_in_place(
        self, sequence: Sequence, match: PrefixMatch, num_needed: int
    ) -> Any | None:
        """Restores and gives the blocks up that were restored from, where only that makes room."""
        agent = sequence.agent
        given_up = [*sequence.block_table, *sequence.restored, *agent.block_table]
        if not self.relief.would_do(num_needed, given_up):
            return None
        caches = self._restore(match, len(sequence.token_ids))
        for table in (sequence.block_table, sequence.restored):
            self._pool.release_table(table)
        sequence.block_table, sequence.restored = [], []
        self._agents.store(agent, [], ())
        self.relief.make_room(num_needed, ())
        return caches

    def _match(self, sequence: Sequence) -> PrefixMatch:
        if not self._reuses:
            return PrefixMatch()
        # What was read ahead may go further than what the agent has in memory.
        own = max(sequence.agent.block_table, sequence.restored, key=len)
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

    def grow(self, sequence: Sequence, sequences: Iterable[Sequence]) -> bool:
        """Pays for the tokens a sequence has now; False when there is no room."""
        num_needed = sequence.num_missing_blocks
        if not self.relief.make_room(num_needed, sequences):
            return False
        sequence.working_blocks += [self._pool.allocate() for _ in range(num_needed)]
        return True

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
        sealed = self._pool.seal(block, sequence.hashes[index], token_ids, payload)
        self.on_sealed(sealed, sequence.hashes[index - 1] if index else self._root_hash)
        return sealed

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
        self._pool.release_table(sequence.restored)
        sequence.block_table = []
        sequence.restored = []
        sequence.working_blocks = []
        sequence.caches = None


def _nobody(_block: KVBlock, _parent_hash: bytes) -> None:
    """Nobody is told."""
