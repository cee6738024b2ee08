"""The block pool: a fixed number of slots for KV, shared by content, reclaimed by age."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

from engine.cache.block import KVBlock
from engine.cache.pool_check import check_pool

ChooseVictim = Callable[[Iterable[KVBlock]], KVBlock]
"""Chooses a block to free among those that nobody holds, oldest first."""


class BlockPool:
    """Allocates, shares and reclaims blocks. Every operation is O(1) per slot.

    A block is in exactly one of three states: *free* (holds nothing), *referenced* (held by at
    least one table), or *cached* (held by nobody, content still reusable, reclaimed oldest
    first when free blocks run out). A block takes one slot, a checkpoint several; all counts
    are of slots.

    Of the referenced blocks the pool also knows which are held only by agents whose caches may
    be taken away (*idle*), which are held by pinned agents, and which pay for a mere copy that
    goes before anything else (*spare*); those who hold them tell it.
    """

    def __init__(self, num_total_blocks: int, block_bytes: int) -> None:
        """Makes an empty pool.

        Args:
            num_total_blocks: Size of the pool in slots.
            block_bytes: Bytes of one full block over all layers; for reporting.
        """
        self.num_total_blocks = num_total_blocks
        self.block_bytes = block_bytes
        self.num_idle_blocks = 0
        self.num_pinned_blocks = 0
        self.num_withheld_blocks = 0
        self.num_evicted_blocks = 0
        self.choose_victim: ChooseVictim = _oldest
        self.give_up_spare: Callable[[], None] = _nothing
        self.changed: set[int] = set()
        """Ids of the slots that changed since somebody cleared this; for who draws the pool."""
        self._blocks: list[KVBlock] = []
        self._free: list[KVBlock] = []
        # An ordered dict, so that a cached block that is wanted again leaves the middle in O(1).
        self._cached: OrderedDict[int, KVBlock] = OrderedDict()
        self._num_cached = 0
        self._by_hash: dict[bytes, KVBlock] = {}
        self._spare: set[int] = set()

    def __iter__(self) -> Iterator[KVBlock]:
        """Every slot that was ever used, by block id."""
        return iter(self._blocks)

    def __getitem__(self, block_id: int) -> KVBlock:
        """The slot of that id, which must have been used once."""
        return self._blocks[block_id]

    @property
    def num_used_slots(self) -> int:
        """Slots that were ever used: ids below this exist."""
        return len(self._blocks)

    @property
    def num_free_blocks(self) -> int:
        """Slots that hold nothing."""
        return self.num_total_blocks - len(self._blocks) + len(self._free)

    @property
    def num_cached_blocks(self) -> int:
        """Slots of blocks nobody holds whose content is still reusable."""
        return self._num_cached

    @property
    def num_referenced_blocks(self) -> int:
        """Slots of blocks held by at least one table, but for spare ones."""
        return len(self._blocks) - len(self._free) - self._num_cached - len(self._spare)

    @property
    def num_allocatable_blocks(self) -> int:
        """Slots that ``allocate`` can give without anybody losing what they hold.

        Less than zero where more slots are withheld than are free, cached or spare.
        """
        num_reclaimable = self._num_cached + len(self._spare)
        return self.num_free_blocks + num_reclaimable - self.num_withheld_blocks

    def can_allocate(self, num_blocks: int) -> bool:
        """Whether ``allocate`` would succeed for that many slots, together or one by one."""
        return num_blocks <= self.num_allocatable_blocks

    def allocate(self, num_slots: int = 1) -> KVBlock:
        """Takes a block for one holder; the oldest cached blocks go when too few are free.

        Args:
            num_slots: What it is charged.

        Raises:
            ValueError: So much is not allocatable; ask ``can_allocate`` first.
        """
        if not self.can_allocate(num_slots):
            raise ValueError("the pool has no block to give")
        self._reclaim(num_slots + self.num_withheld_blocks)
        block = self._take()
        block.more_slots = tuple(self._take() for _ in range(num_slots - 1))
        block.ref_count = 1
        return block

    def _reclaim(self, num_free: int) -> None:
        """Frees spare, then cached blocks until as many slots are free, or none is left."""
        while self.num_free_blocks < num_free and self._spare:
            self.give_up_spare()
        while self.num_free_blocks < num_free and self._cached:
            victim = self.choose_victim(self._cached.values())
            self.drop_cached((victim,))

    def withhold(self, num_blocks: int) -> None:
        """Keeps slots free, because there is no memory for them; frees cached blocks for that.

        Args:
            num_blocks: How many; takes the place of an earlier number.
        """
        self.num_withheld_blocks = min(num_blocks, self.num_total_blocks)
        self._reclaim(self.num_withheld_blocks)

    def _take(self) -> KVBlock:
        if self._free:
            block = self._free.pop()
        else:
            block = KVBlock(len(self._blocks))
            self._blocks.append(block)
        self.changed.add(block.block_id)
        return block

    def join(self, blocks: Sequence[KVBlock]) -> KVBlock:
        """Makes one block of several.

        Args:
            blocks: Unsealed blocks of one slot and one holder each, all the same holder.
        """
        head = blocks[0]
        head.more_slots = tuple(blocks[1:])
        for block in head.more_slots:
            block.ref_count = 0
        return head

    def lookup(self, block_hash: bytes) -> KVBlock | None:
        """The block of that content, referenced or cached, or None."""
        return self._by_hash.get(block_hash)

    def acquire(self, block: KVBlock) -> KVBlock:
        """Adds a holder to a referenced or cached block."""
        if block.ref_count == 0:
            del self._cached[block.block_id]
            self._num_cached -= block.num_slots
        elif block.ref_count == block.num_idle_holds:
            self.num_idle_blocks -= block.num_slots
        block.ref_count += 1
        self.changed.add(block.block_id)
        return block

    def release(self, block: KVBlock) -> None:
        """Takes one holder away; the last one leaves the block cached, or free if unsealed.

        Raises:
            ValueError: Nobody holds it.
        """
        if block.ref_count == 0:
            raise ValueError(f"block {block.block_id} is not held by anybody")
        block.ref_count -= 1
        self.changed.add(block.block_id)
        if block.ref_count > 0:
            if block.ref_count == block.num_idle_holds:
                self.num_idle_blocks += block.num_slots
        elif block.block_hash is None:
            self._free_content(block)
        else:
            self._cached[block.block_id] = block
            self._num_cached += block.num_slots

    def release_table(self, table: Sequence[KVBlock]) -> None:
        """Releases in reverse, so that the ends of chains are reclaimed before their beginnings."""
        for block in reversed(table):
            self.release(block)

    def seal(
        self,
        block: KVBlock,
        block_hash: bytes,
        token_ids: tuple[int, ...],
        payload: object,
        parent_hash: bytes = b"",
    ) -> KVBlock:
        """Gives a private block its content and makes it shareable.

        Args:
            block: A block from ``allocate`` with one holder.
            block_hash: Identity of the content.
            token_ids: The tokens it covers.
            payload: The KV.
            parent_hash: Hash of the block before it.

        Returns:
            The block that now stands for the content. If the same content was in the pool
            already, that is the older block, and ``block`` was released.
        """
        older = self._by_hash.get(block_hash)
        if older is not None:
            self.acquire(older)
            self.release(block)
            return older
        block.seal(parent_hash, block_hash, token_ids, payload)
        self._by_hash[block_hash] = block
        self.changed.add(block.block_id)
        return block

    def disown(self, block_hash: bytes) -> None:
        """Takes a block's name away, so that nobody finds it; frees it where nobody holds it."""
        block = self._by_hash.get(block_hash)
        if block is None:
            return
        if block.ref_count == 0:
            self.drop_cached((block,))
        else:
            del self._by_hash[block_hash]
            block.block_hash = None

    def drop_cached(self, blocks: Iterable[KVBlock]) -> int:
        """Frees those of the given blocks that nobody holds.

        Returns:
            How many slots were freed.
        """
        num_dropped = 0
        for block in blocks:
            if block.ref_count == 0 and self._cached.pop(block.block_id, None) is not None:
                num_dropped += block.num_slots
                self._num_cached -= block.num_slots
                self._free_content(block)
        self.num_evicted_blocks += num_dropped
        return num_dropped

    def _free_content(self, block: KVBlock) -> None:
        if block.block_hash is not None:
            del self._by_hash[block.block_hash]
        slots = (block, *block.more_slots)
        block.reset()
        self._free += slots
        self.changed.update(slot.block_id for slot in slots)

    # What agents tell

    @property
    def num_spare_blocks(self) -> int:
        """Slots that pay for copies which go before anything else."""
        return len(self._spare)

    def is_spare(self, block: KVBlock) -> bool:
        """Whether a block pays for such a copy."""
        return block.block_id in self._spare

    def mark_spare(self, working_blocks: Iterable[KVBlock]) -> None:
        """Takes note that blocks of one slot and one holder are given up when asked for."""
        for block in working_blocks:
            self._spare.add(block.block_id)
            self.changed.add(block.block_id)

    def unmark_spare(self, working_blocks: Iterable[KVBlock]) -> None:
        """Takes note that blocks, marked before, are not given up any more."""
        for block in working_blocks:
            self._spare.remove(block.block_id)
            self.changed.add(block.block_id)

    def mark_idle(self, table: Iterable[KVBlock]) -> None:
        """Takes note that a holder of a table may lose it."""
        for block in table:
            block.num_idle_holds += 1
            if block.num_idle_holds == block.ref_count:
                self.num_idle_blocks += block.num_slots

    def unmark_idle(self, table: Iterable[KVBlock]) -> None:
        """Takes note that a holder of a table, marked before, must keep it, or gives it up."""
        for block in table:
            if block.num_idle_holds == block.ref_count:
                self.num_idle_blocks -= block.num_slots
            block.num_idle_holds -= 1

    def mark_pinned(self, table: Iterable[KVBlock], step: int) -> None:
        """Takes note that a table is a pinned agent's (``step`` 1), or is no more (-1)."""
        for block in table:
            was_pinned = block.num_pinned_holds > 0
            block.num_pinned_holds += step
            is_pinned = block.num_pinned_holds > 0
            self.num_pinned_blocks += (is_pinned - was_pinned) * block.num_slots
            self.changed.add(block.block_id)

    def mark_holder(self, table: Iterable[KVBlock], number: int, step: int) -> None:
        """Takes note that the agent of a number holds a table (``step`` 1), or gives it up (-1)."""
        for block in table:
            block.num_agent_holds += step
            block.holder_sum += step * number
            self.changed.add(block.block_id)

    def check_integrity(self, tables: Iterable[Sequence[KVBlock]]) -> None:
        """Verifies the pool's invariants against all tables that hold blocks.

        Raises:
            AssertionError: A count is wrong, or a block is in two states.
        """
        check_pool(self, self._blocks, self._free, list(self._cached.values()), tables)
        assert len(self._by_hash) == sum(b.block_hash is not None for b in self._blocks)


def _nothing() -> None:
    """Nobody has anything to give up."""


def _oldest(cached: Iterable[KVBlock]) -> KVBlock:
    return next(iter(cached))
