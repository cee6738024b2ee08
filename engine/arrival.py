"""Blocks that come back from disk, put into the pool one after the other."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Protocol

from engine.cache.block import BLOCK_TOKENS, KVBlock
from engine.cache.checkpoint import checkpoint_slots
from engine.cache.disk.records import BlockRecord, TensorBytes
from engine.cache.disk.tier import DiskTier
from engine.cache.payload_span import PayloadSpan
from engine.cache.pool import BlockPool
from engine.cache.spec import CacheSpec
from engine.errors import PayloadError
from engine.spare_work import SpareWork


class ByteReader(Protocol):
    """Turns bytes into block payloads; the model runner is one."""

    def from_bytes(self, tensors: Items[TensorBytes], span: PayloadSpan) -> object:
        """The payload that the bytes were made of.

        Args:
            tensors: The bytes, from a file that anybody may have made.
            span: Which tokens the payload is said to be of.

        Raises:
            PayloadError: They are not such a payload of this model.
        """


class Placer:
    """Puts what was read into the pool. Belongs to the engine's thread."""

    def __init__(
        self,
        tier: DiskTier,
        pool: BlockPool,
        mover: ByteReader,
        spec: CacheSpec,
        make_room: Callable[[int], bool],
        spare: SpareWork,
    ) -> None:
        """Wires the parts.

        Args:
            tier: Told of files that are not what they seem.
            pool: Where blocks go.
            mover: Turns bytes into payloads.
            spec: What the model's cache looks like.
            make_room: Makes that many slots allocatable; False when it cannot.
            spare: Leaves out what there is no memory for.
        """
        self._tier = tier
        self._pool = pool
        self._mover = mover
        self._spec = spec
        self._make_room = make_room
        self._spare = spare

    def place(self, record: BlockRecord, start: int) -> KVBlock | None:
        """A held block with a record's content; None when there is no room for it.

        A file may be sound to the last bit and yet not hold what this model keeps: whoever made
        it need not have been Stoker. Such a file is set aside.

        Args:
            record: What was read.
            start: Tokens before it.

        Raises:
            PayloadError: It is not a payload of that place in this model.
        """
        known = self._pool.lookup(record.block_hash)
        if known is not None:
            return self._pool.acquire(known)
        is_full = len(record.token_ids) == BLOCK_TOKENS
        is_checkpoint = self._spec.needs_checkpoints and not is_full
        num_slots = checkpoint_slots(self._spec) if is_checkpoint else 1
        if not self._make_room(num_slots):
            return None
        span = PayloadSpan(start, len(record.token_ids), is_checkpoint)
        try:
            payload = self._spare.attempt(
                f"take {len(record.token_ids)} tokens from disk",
                lambda: self._mover.from_bytes(record.tensors, span),
            )
        except PayloadError as error:
            self._tier.set_aside(record.block_hash, str(error))
            raise
        if payload is None:
            return None
        block = self._pool.allocate(num_slots)
        if is_full or is_checkpoint:
            return self._pool.seal(
                block, record.block_hash, record.token_ids, payload, record.parent_hash
            )
        block.token_ids, block.payload = record.token_ids, payload
        return block


class Arrival:
    """A chain of blocks on its way into the pool.

    Attributes:
        table: Held blocks from the beginning of the context on; grows with every one that comes.
        is_given_up: Whether nobody can use the chain any more.
        is_cut: Whether one could not be read or placed; nothing after it is taken.
        has_room: Whether there was room for all that was to be placed.
        num_read_tokens: Tokens of all that was read.
        num_placed_tokens: Tokens of what was added to the table.
    """

    def __init__(
        self,
        table: list[KVBlock],
        start: int,
        placer: Placer,
        *,
        is_given_up: Callable[[], bool],
    ) -> None:
        """Starts with what is there already.

        Args:
            table: Held blocks that the chain follows.
            start: Tokens before it.
            placer: Puts blocks into the pool.
            is_given_up: Whether nobody can use the chain any more.
        """
        self.table = table
        self.is_given_up = is_given_up
        self.is_cut = False
        self.has_room = True
        self.num_read_tokens = 0
        self.num_placed_tokens = 0
        self._start = start
        self._placer = placer
        self._num_held = len(table)

    def take(self, records: Items[BlockRecord]) -> None:
        """Places the next block; nothing where it could not be read."""
        self.num_read_tokens += sum(len(record.token_ids) for record in records)
        if self.is_cut or self.is_given_up():
            return
        # What was found to be spoilt meanwhile is gone from the table: nothing follows a gap.
        self.is_cut = not records or len(self.table) != self._num_held
        for record in () if self.is_cut else records:
            block = self._placed(record)
            if block is None:
                self.is_cut = True
                return
            self.table.append(block)
            self._num_held += 1
            self.num_placed_tokens += len(block.token_ids)

    def _placed(self, record: BlockRecord) -> KVBlock | None:
        try:
            block = self._placer.place(record, self._start + self.num_placed_tokens)
        except PayloadError:
            return None
        self.has_room = block is not None
        return block
