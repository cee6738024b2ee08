"""What the pool has of a sequence's context, put into the sequence's own cache."""

from __future__ import annotations

from typing import Any

from engine.cache.block import BLOCK_TOKENS, KVBlock
from engine.cache.pool import BlockPool
from engine.cache.prefix import PrefixMatch, match_checkpoint, match_prefix
from engine.cache.spec import CacheSpec
from engine.cache_mover import CacheMover
from engine.sequence import Sequence
from engine.spare_work import SpareWork


class Restorer:
    """Finds blocks and restores from them. Belongs to the engine's thread."""

    def __init__(
        self,
        pool: BlockPool,
        mover: CacheMover,
        spec: CacheSpec,
        spare: SpareWork,
        *,
        reuses: bool,
    ) -> None:
        """Wires the parts.

        Args:
            pool: Has the blocks.
            mover: Moves the KV.
            spec: What the model's cache looks like.
            spare: Leaves out what there is no memory for.
            reuses: Whether the model's cache may be cut and restored.
        """
        self._pool = pool
        self._mover = mover
        self._spec = spec
        self._spare = spare
        self.reuses = reuses

    def shares(self, sequence: Sequence) -> bool:
        """Whether a sequence takes from the pool, and gives to it."""
        return self.reuses and not sequence.avoids_cache

    def match(self, sequence: Sequence) -> PrefixMatch:
        """What the pool has of a sequence's context, from its beginning on."""
        if not self.shares(sequence):
            return PrefixMatch()
        if self._spec.needs_checkpoints:
            return match_checkpoint(self._pool, sequence.hashes, sequence.places)
        # What was read ahead may go further than what the agent has in memory.
        own = max(sequence.agent.block_table, sequence.restored, key=len)
        return match_prefix(self._pool, sequence.hashes, sequence.token_ids, own)

    def restore(self, sequence: Sequence, match: PrefixMatch) -> Any | None:
        """A cache that holds what was matched, with room for all of a sequence's tokens.

        Returns:
            The cache; None where there is no memory to restore it.
        """
        if match.num_tokens == 0:
            return self._mover.new_cache()
        payloads = [block.payload for block in match.blocks]
        num_last_tokens = BLOCK_TOKENS
        if match.partial is not None:
            payloads.append(match.partial.payload)
            num_last_tokens = match.num_partial_tokens
        num_capacity_tokens = len(sequence.token_ids)
        return self._spare.attempt(
            f"restore {match.num_tokens} tokens of {sequence.agent.agent_id}: they are computed",
            lambda: self._mover.restore(payloads, num_last_tokens, num_capacity_tokens),
        )

    def skip_known_blocks(self, sequence: Sequence) -> int:
        """Takes over what others have computed since a sequence was admitted.

        Returns:
            How many tokens were taken from the pool.

        Raises:
            OutOfMemoryError: There is no memory for it; the sequence's cache is of no use any more.
        """
        if not self.shares(sequence):
            return 0
        start = sequence.num_computed_tokens
        if self._spec.needs_checkpoints:
            self._skip_to_checkpoint(sequence)
        else:
            self._append_known_blocks(sequence)
        num_skipped = sequence.num_computed_tokens - start
        sequence.has_reused = sequence.has_reused or num_skipped > 0
        return num_skipped

    def _append_known_blocks(self, sequence: Sequence) -> None:
        while sequence.num_computed_tokens % BLOCK_TOKENS == 0:
            index = sequence.num_computed_tokens // BLOCK_TOKENS
            if sequence.num_remaining_tokens <= BLOCK_TOKENS or index >= len(sequence.hashes):
                break
            block = self._pool.lookup(sequence.hashes[index])
            if block is None:
                break
            self._mover.append_block(sequence.caches, block.payload)
            self._hold(sequence, index, self._pool.acquire(block))
            sequence.num_computed_tokens += BLOCK_TOKENS

    def _hold(self, sequence: Sequence, index: int, block: KVBlock) -> None:
        """Adds a hold to the sequence's table, unless an earlier one was given up."""
        if len(sequence.block_table) == index:
            sequence.block_table.append(block)
        else:
            self._pool.release(block)

    def _skip_to_checkpoint(self, sequence: Sequence) -> None:
        """Starts again from a checkpoint that lies further on, if one is there now."""
        start = sequence.num_computed_tokens
        ahead = [place for place in sequence.places if place.num_tokens > start]
        if not any(self._pool.lookup(place.name) for place in ahead):
            return
        match = match_checkpoint(self._pool, sequence.hashes, ahead)
        caches = self.restore(sequence, match) if match.num_tokens else None
        if caches is None:
            return
        sequence.caches = caches
        table = [self._pool.acquire(block) for block in match.blocks]
        self._pool.release_table(sequence.block_table)
        sequence.block_table = table
        sequence.num_computed_tokens = match.num_tokens
