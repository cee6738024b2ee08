"""Cutting a sequence's cache into blocks and checkpoints that others can use."""

from __future__ import annotations

from collections.abc import Callable

from engine.cache.block import BLOCK_TOKENS, KVBlock, block_hash
from engine.cache.checkpoint import checkpoint_slots
from engine.cache.pool import BlockPool
from engine.cache.spec import CacheSpec
from engine.cache_mover import CacheMover
from engine.sequence import Sequence

Sealed = Callable[[KVBlock, bytes], None]
"""Told of every block that got its content, with the hash of the block before it."""


class Cutter:
    """Makes sealed blocks and checkpoints. Belongs to the engine's thread."""

    def __init__(self, pool: BlockPool, mover: CacheMover, spec: CacheSpec) -> None:
        """Wires the parts.

        Args:
            pool: Pays for everything.
            mover: Copies the KV.
            spec: What the model's cache looks like.
        """
        self._pool = pool
        self._mover = mover
        self._spec = spec
        self.on_sealed: Sealed = _nobody

    def share_block(self, sequence: Sequence) -> None:
        """Publishes the block a sequence has just completed, if a free one can be had for it."""
        index, rest = divmod(sequence.num_computed_tokens, BLOCK_TOKENS)
        if rest or not self._pool.can_allocate(1):
            return
        index -= 1
        if len(sequence.block_table) != index or index >= len(sequence.hashes):
            return
        block = self._pool.lookup(sequence.hashes[index])
        if block is None:
            block = self._seal_block(self._pool.allocate(), sequence, index)
        else:
            self._pool.acquire(block)
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
            block = self._pool.allocate(num_slots)
            self._pool.release(self._seal_checkpoint(block, sequence, num_tokens))

    def to_blocks(self, sequence: Sequence, num_tokens: int) -> list[KVBlock]:
        """Blocks for the sequence's computed tokens, paid for by its working blocks."""
        num_full = num_tokens // BLOCK_TOKENS
        sequence.know_hashes(num_tokens)
        table, sequence.block_table = sequence.block_table, []
        for index in range(len(table), num_full):
            table.append(self._to_block(sequence, index))
        if self._spec.needs_checkpoints:
            table.append(self._to_checkpoint(sequence, num_tokens))
        elif num_tokens > num_full * BLOCK_TOKENS:
            tail = sequence.working_blocks.pop()
            tail.token_ids = tuple(sequence.token_ids[num_full * BLOCK_TOKENS : num_tokens])
            tail.payload = self._mover.cut_tail(sequence.caches, num_tokens)
            table.append(tail)
        return table

    def _to_block(self, sequence: Sequence, index: int) -> KVBlock:
        known = self._pool.lookup(sequence.hashes[index])
        if known is not None:
            return self._pool.acquire(known)
        return self._seal_block(sequence.working_blocks.pop(), sequence, index)

    def _seal_block(self, block: KVBlock, sequence: Sequence, index: int) -> KVBlock:
        start = index * BLOCK_TOKENS
        token_ids = tuple(sequence.token_ids[start : start + BLOCK_TOKENS])
        payload = self._mover.cut_block(sequence.caches, index)
        parent = sequence.parent_hash(index)
        sealed = self._pool.seal(block, sequence.hashes[index], token_ids, payload, parent)
        sequence.shared_names.append(sequence.hashes[index])
        self.on_sealed(sealed, parent)
        return sealed

    def _to_checkpoint(self, sequence: Sequence, num_tokens: int) -> KVBlock:
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

    def _seal_checkpoint(self, block: KVBlock, sequence: Sequence, num_tokens: int) -> KVBlock:
        num_blocks = num_tokens // BLOCK_TOKENS
        token_ids = tuple(sequence.token_ids[num_blocks * BLOCK_TOKENS : num_tokens])
        parent = sequence.parent_hash(num_blocks)
        name = block_hash(parent, token_ids)
        payload = self._mover.cut_tail(sequence.caches, num_tokens)
        sealed = self._pool.seal(block, name, token_ids, payload, parent)
        sequence.shared_names.append(name)
        self.on_sealed(sealed, parent)
        return sealed


def _nobody(_block: KVBlock, _parent_hash: bytes) -> None:
    """Nobody is told."""
