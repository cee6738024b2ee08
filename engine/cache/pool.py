"""The block pool: a fixed number of KV blocks, shared by content, reclaimed by age."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from engine.cache.block import KVBlock


class BlockPool:
    """Allocates, shares and reclaims blocks. Every operation is O(1) per block.

    A block is in exactly one of three states: *free* (holds nothing), *referenced* (held by at
    least one table), or *cached* (held by nobody, content still reusable, reclaimed oldest
    first when free blocks run out).
    """

    def __init__(self, num_total_blocks: int, block_bytes: int) -> None:
        """Makes an empty pool.

        Args:
            num_total_blocks: Size of the pool.
            block_bytes: Bytes of one full block over all layers; for reporting.
        """
        self.num_total_blocks = num_total_blocks
        self.block_bytes = block_bytes
        self._blocks: list[KVBlock] = []
        self._free: list[KVBlock] = []
        # An ordered dict, so that a cached block that is wanted again leaves the middle in O(1).
        self._cached: OrderedDict[int, KVBlock] = OrderedDict()
        self._by_hash: dict[bytes, KVBlock] = {}

    def __iter__(self) -> Iterator[KVBlock]:
        """Every block that was ever used, by block id."""
        return iter(self._blocks)

    @property
    def num_free_blocks(self) -> int:
        """Blocks that hold nothing."""
        return self.num_total_blocks - len(self._blocks) + len(self._free)

    @property
    def num_cached_blocks(self) -> int:
        """Blocks nobody holds whose content is still reusable."""
        return len(self._cached)

    @property
    def num_referenced_blocks(self) -> int:
        """Blocks held by at least one table."""
        return len(self._blocks) - len(self._free) - len(self._cached)

    @property
    def num_allocatable_blocks(self) -> int:
        """Blocks that ``allocate`` can give without anybody losing what they hold."""
        return self.num_free_blocks + self.num_cached_blocks

    def can_allocate(self, num_blocks: int) -> bool:
        """Whether ``allocate`` would succeed that many times in a row."""
        return num_blocks <= self.num_allocatable_blocks

    def allocate(self) -> KVBlock:
        """Takes a block for one holder; the oldest cached block goes when none is free.

        Raises:
            ValueError: Nothing is allocatable; ask ``can_allocate`` first.
        """
        if self._free:
            block = self._free.pop()
        elif len(self._blocks) < self.num_total_blocks:
            block = KVBlock(len(self._blocks))
            self._blocks.append(block)
        elif self._cached:
            _, block = self._cached.popitem(last=False)
            self._forget(block)
        else:
            raise ValueError("the pool has no block to give")
        block.ref_count = 1
        return block

    def lookup(self, block_hash: bytes) -> KVBlock | None:
        """The block of that content, referenced or cached, or None."""
        return self._by_hash.get(block_hash)

    def acquire(self, block: KVBlock) -> KVBlock:
        """Adds a holder to a referenced or cached block."""
        if block.ref_count == 0:
            del self._cached[block.block_id]
        block.ref_count += 1
        return block

    def release(self, block: KVBlock) -> None:
        """Takes one holder away; the last one leaves the block cached, or free if unsealed.

        Raises:
            ValueError: Nobody holds it.
        """
        if block.ref_count == 0:
            raise ValueError(f"block {block.block_id} is not held by anybody")
        block.ref_count -= 1
        if block.ref_count == 0:
            if block.block_hash is None:
                block.reset()
                self._free.append(block)
            else:
                self._cached[block.block_id] = block

    def release_table(self, table: Sequence[KVBlock]) -> None:
        """Releases in reverse, so that the ends of chains are reclaimed before their beginnings."""
        for block in reversed(table):
            self.release(block)

    def seal(
        self, block: KVBlock, block_hash: bytes, token_ids: tuple[int, ...], payload: object
    ) -> KVBlock:
        """Gives a private block its content and makes it shareable.

        Args:
            block: A block from ``allocate`` with one holder.
            block_hash: Identity of the content.
            token_ids: The tokens it covers.
            payload: The KV.

        Returns:
            The block that now stands for the content. If the same content was in the pool
            already, that is the older block, and ``block`` was released.
        """
        older = self._by_hash.get(block_hash)
        if older is not None:
            self.acquire(older)
            self.release(block)
            return older
        block.seal(block_hash, token_ids, payload)
        self._by_hash[block_hash] = block
        return block

    def drop_cached(self, blocks: Iterable[KVBlock]) -> int:
        """Frees those of the given blocks that nobody holds.

        Returns:
            How many were freed.
        """
        num_dropped = 0
        for block in blocks:
            if block.ref_count == 0 and self._cached.pop(block.block_id, None) is not None:
                self._forget(block)
                self._free.append(block)
                num_dropped += 1
        return num_dropped

    def _forget(self, block: KVBlock) -> None:
        if block.block_hash is not None:
            del self._by_hash[block.block_hash]
        block.reset()

    def check_integrity(self, tables: Iterable[Sequence[KVBlock]]) -> None:
        """Verifies the pool's invariants against all tables that hold blocks.

        Raises:
            AssertionError: A count is wrong, or a block is in two states.
        """
        holders = Counter(block.block_id for table in tables for block in table)
        for block in self._blocks:
            assert block.ref_count == holders[block.block_id], f"ref count of {block}"
            if block.block_hash is not None:
                assert self._by_hash[block.block_hash] is block, f"hash index of {block}"
        assert (
            self.num_free_blocks + self.num_referenced_blocks + self.num_cached_blocks
            == self.num_total_blocks
        )
        assert self.num_referenced_blocks == len(+holders)
        assert all(block.ref_count == 0 for block in self._cached.values())
        assert all(block.block_hash is None for block in self._free)
        assert len(self._by_hash) == sum(b.block_hash is not None for b in self._blocks)
