"""The pool's invariants: for tests, and whenever there is doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from engine.cache.block import KVBlock

if TYPE_CHECKING:
    from engine.cache.pool import BlockPool


def check_pool(
    pool: BlockPool,
    blocks: Sequence[KVBlock],
    free: Sequence[KVBlock],
    cached: Sequence[KVBlock],
    tables: Iterable[Sequence[KVBlock]],
) -> None:
    """Verifies that every slot is in one state and every count is right.

    Args:
        pool: The pool.
        blocks: All its slots that were ever used.
        free: Those that hold nothing.
        cached: Its blocks that nobody holds.
        tables: Every table that holds blocks.

    Raises:
        AssertionError: A count is wrong, or a slot is in two states.
    """
    holders = Counter(block.block_id for table in tables for block in table)
    for block in blocks:
        assert block.ref_count == holders[block.block_id], f"ref count of {block}"
        assert 0 <= block.num_idle_holds <= block.ref_count, f"idle holds of {block}"
        assert 0 <= block.num_pinned_holds <= block.ref_count, f"pinned holds of {block}"
        if block.block_hash is not None:
            assert pool.lookup(block.block_hash) is block, f"hash index of {block}"
    referenced = [block for block in blocks if block.ref_count > 0]
    spare = [block for block in referenced if pool.is_spare(block)]
    assert all(b.ref_count == 1 and b.payload is None and b.num_slots == 1 for b in spare)
    assert pool.num_spare_blocks == len(spare)
    assert pool.num_referenced_blocks == _num_slots(referenced) - len(spare)
    assert pool.num_cached_blocks == _num_slots(cached)
    num_kept = pool.num_cached_blocks + pool.num_spare_blocks
    assert pool.num_free_blocks + pool.num_referenced_blocks + num_kept == pool.num_total_blocks
    assert all(block.ref_count == 0 for block in cached)
    assert all(block.block_hash is None and not block.more_slots for block in free)
    # Every slot once: on its own, or as part of another.
    slots = [slot for b in (*referenced, *cached) for slot in (b, *b.more_slots)]
    places = Counter(slot.block_id for slot in (*slots, *free))
    assert places == Counter(range(len(blocks))), "a slot is in two places, or in none"
    idle = [b for b in referenced if b.ref_count == b.num_idle_holds]
    assert pool.num_idle_blocks == _num_slots(idle)
    assert pool.num_pinned_blocks == _num_slots([b for b in blocks if b.num_pinned_holds])


def _num_slots(blocks: Iterable[KVBlock]) -> int:
    return sum(block.num_slots for block in blocks)
