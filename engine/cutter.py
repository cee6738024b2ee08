"""Cutting a sequence's cache into blocks and checkpoints that others can use."""

from __future__ import annotations

from collections.abc import Callable

from engine.cache.block import BLOCK_TOKENS, KVBlock, block_hash
from engine.cache.checkpoint import checkpoint_slots
from engine.cache.pool import BlockPool
from engine.cache.spec import CacheSpec
from engine.cache_mover import CacheMover
from engine.sequence import Sequence
from engine.spare_work import SpareWork

Sealed = Callable[[KVBlock, bytes], None]
"""Told of every block that got its content, with the hash of the block before it."""


class Cutter:
    """Makes sealed blocks and checkpoints. Belongs to the engine's thread."""

    def __init__(
        self, pool: BlockPool, mover: CacheMover, spec: CacheSpec, spare: SpareWork
    ) -> None:
        """Wires the parts.

        Args:
            pool: Pays for everything.
            mover: Copies the KV.
            spec: What the model's cache looks like.
            spare: Leaves out what there is no memory for.
        """
        self._pool = pool
        self._mover = mover
        self._spec = spec
        self._spare = spare
        self.on_sealed: Sealed = _nobody

    def share_block(self, sequence: Sequence) -> None:
        """Publishes the block a sequence has just completed, if a free one can be had for it."""
        index, rest = divmod(sequence.num_computed_tokens, BLOCK_TOKENS)
        if rest or not self._pool.can_allocate(1):
            return
        index -= 1
        if len(sequence.block_table) != index or index >= len(sequence.hashes):
            return
        known = self._pool.lookup(sequence.hashes[index])
        if known is not None:
            block: KVBlock | None = self._pool.acquire(known)
        else:
            block = self._seal_block(self._pool.allocate(), sequence, index)
        if block is not None:
            sequence.block_table.append(block)

    def share_checkpoint(self, sequence: Sequence) -> None:
        """Publishes the place a sequence has come to, if it is one to make a checkpoint at.

        Nobody holds it: it stays as long as nobody needs its room.
        """
        num_tokens = sequence.num_computed_tokens
        num_slots = checkpoint_slots(self._spec)
        has_blocks = len(sequence.block_table) == num_tokens // BLOCK_TOKENS
        if num_tokens not in sequence.stops or not has_blocks:
            return
        name = self._checkpoint_name(sequence, num_tokens)
        if self._pool.lookup(name) is None and self._pool.can_allocate(num_slots):
            block = self._seal_checkpoint(self._pool.allocate(num_slots), sequence, num_tokens)
            if block is not None:
                self._pool.release(block)

    def to_blocks(self, sequence: Sequence, num_tokens: int) -> list[KVBlock]:
        """Blocks for the sequence's computed tokens, paid for by its working blocks.

        Returns:
            The blocks from the beginning on; all of them, or as many as there is memory to cut.
        """
        num_full = num_tokens // BLOCK_TOKENS
        sequence.know_hashes(num_tokens)
        table, sequence.block_table = sequence.block_table, []
        for index in range(len(table), num_full):
            block = self._to_block(sequence, index)
            if block is None:
                return table
            table.append(block)
        end = self._to_end(sequence, num_tokens)
        return table if end is None else [*table, end]

    def _to_end(self, sequence: Sequence, num_tokens: int) -> KVBlock | None:
        """What follows the last full block: a checkpoint, a tail, or nothing."""
        if self._spec.needs_checkpoints:
            return self._to_checkpoint(sequence, num_tokens)
        start = num_tokens // BLOCK_TOKENS * BLOCK_TOKENS
        payload = self._cut_end(sequence, num_tokens) if num_tokens > start else None
        if payload is None:
            return None
        tail = sequence.working_blocks.pop()
        tail.token_ids = tuple(sequence.token_ids[start:num_tokens])
        tail.payload = payload
        return tail

    def _cut_end(self, sequence: Sequence, num_tokens: int) -> object | None:
        return self._spare.attempt(
            f"keep the last tokens of {sequence.agent.agent_id}",
            lambda: self._mover.cut_tail(sequence.caches, num_tokens),
        )

    def _to_block(self, sequence: Sequence, index: int) -> KVBlock | None:
        known = self._pool.lookup(sequence.hashes[index])
        if known is not None:
            return self._pool.acquire(known)
        return self._seal_block(sequence.working_blocks.pop(), sequence, index)

    def _seal_block(self, block: KVBlock, sequence: Sequence, index: int) -> KVBlock | None:
        """Gives a block its content, or lets it go where there is no memory to cut that."""
        start = index * BLOCK_TOKENS
        payload = self._spare.attempt(
            f"keep tokens {start} to {start + BLOCK_TOKENS} of {sequence.agent.agent_id}",
            lambda: self._mover.cut_block(sequence.caches, index),
        )
        if payload is None:
            self._pool.release(block)
            return None
        token_ids = tuple(sequence.token_ids[start : start + BLOCK_TOKENS])
        parent = sequence.parent_hash(index)
        sealed = self._pool.seal(block, sequence.hashes[index], token_ids, payload, parent)
        sequence.shared_names.append(sequence.hashes[index])
        self.on_sealed(sealed, parent)
        return sealed

    def _to_checkpoint(self, sequence: Sequence, num_tokens: int) -> KVBlock | None:
        known = self._pool.lookup(self._checkpoint_name(sequence, num_tokens))
        if known is not None:
            return self._pool.acquire(known)
        working = sequence.working_blocks
        slots = [working.pop() for _ in range(checkpoint_slots(self._spec))]
        return self._seal_checkpoint(self._pool.join(slots), sequence, num_tokens)

    def _checkpoint_name(self, sequence: Sequence, num_tokens: int) -> bytes:
        start = num_tokens // BLOCK_TOKENS * BLOCK_TOKENS
        parent = sequence.parent_hash(num_tokens // BLOCK_TOKENS)
        return block_hash(parent, sequence.token_ids[start:num_tokens])

    def _seal_checkpoint(
        self, block: KVBlock, sequence: Sequence, num_tokens: int
    ) -> KVBlock | None:
        """Gives a checkpoint its content, or lets it go where there is no memory to cut that."""
        payload = self._cut_end(sequence, num_tokens)
        if payload is None:
            self._pool.release(block)
            return None
        num_blocks = num_tokens // BLOCK_TOKENS
        token_ids = tuple(sequence.token_ids[num_blocks * BLOCK_TOKENS : num_tokens])
        parent = sequence.parent_hash(num_blocks)
        name = block_hash(parent, token_ids)
        sealed = self._pool.seal(block, name, token_ids, payload, parent)
        sequence.shared_names.append(name)
        self.on_sealed(sealed, parent)
        return sealed


def _nobody(_block: KVBlock, _parent_hash: bytes) -> None:
    """Nobody is told."""
