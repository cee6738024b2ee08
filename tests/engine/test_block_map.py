"""The block map while agents come back from disk, and where each block is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.publisher import StepReading
from engine.snapshot import NO_OWNER, BlockState, BlockTier, PoolRow
from tests.engine.counting_model import make_core
from tests.engine.disk_core import DiskCore
from tests.engine.expected_map import check_map
from tests.engine.turns import submit

SYSTEM = [(i * 31) % 997 for i in range(512)]
FIRST = [*SYSTEM, *[(i * 17) % 997 for i in range(600)]]
SECOND = [*SYSTEM, *[(i * 13) % 997 for i in range(600)]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCore]:
    disk = DiskCore(tmp_path)
    yield disk
    disk.close()


def ask(disk: DiskCore, agent: str, tokens: list[int]) -> None:
    submit(disk.core, agent, tokens)
    disk.run()
    disk.await_saved(agent)


def drawn(disk: DiskCore) -> PoolRow:
    return disk.core.publisher.draw(StepReading(), 1e6)[0]


def test_a_block_that_is_held_while_the_rest_is_read_is_shared_with_its_other_holder(
    disk: DiskCore,
) -> None:
    ask(disk, "first", FIRST)
    ask(disk, "second", SECOND)
    disk.core.actions.evict("second")
    drawn(disk)

    submit(disk.core, "second", SECOND)

    sequence = disk.core.scheduler.waiting[0]
    assert sequence.is_restoring
    common = [block.block_id for block in sequence.restored]
    assert len(common) == 2
    pool = drawn(disk)
    assert {pool.block_states[at] for at in common} == {BlockState.SHARED}
    assert {pool.block_owners[at] for at in common} == {NO_OWNER}
    disk.do_next()
    own = sequence.restored[-1].block_id
    pool = drawn(disk)
    assert (pool.block_states[own], pool.block_owners[own]) == (BlockState.HOT, 0)
    while sequence.is_restoring:
        check_map(disk.core)
        disk.do_next()
    disk.run()
    check_map(disk.core)
    pool = drawn(disk)
    assert {pool.block_states[at] for at in common} == {BlockState.SHARED}


def test_an_agent_and_its_own_turn_are_one_holder(disk: DiskCore) -> None:
    ask(disk, "first", FIRST)
    kept = [block.block_id for block in disk.core.agents.get("first").block_table]
    submit(disk.core, "first", FIRST)
    disk.core.step()
    pool = drawn(disk)
    assert {pool.block_states[at] for at in kept} == {BlockState.HOT}
    assert {pool.block_owners[at] for at in kept} == {0}


def test_the_map_tells_which_blocks_are_on_disk_too(disk: DiskCore) -> None:
    submit(disk.core, "first", FIRST, max_tokens=30)
    disk.core.step()
    pool = drawn(disk)
    assert pool.num_running_blocks
    assert set(pool.block_tiers) == {BlockTier.NONE, BlockTier.MEMORY}
    disk.run()
    disk.await_saved("first")
    drawn(disk)  # it asks once for those that were not there

    pool = drawn(disk)

    table = disk.core.agents.get("first").block_table
    assert {pool.block_tiers[block.block_id] for block in table} == {BlockTier.DISK}
    assert pool.block_tiers.count(BlockTier.NONE) == pool.num_free_blocks


def test_a_block_that_left_the_disk_is_in_memory_alone(disk: DiskCore) -> None:
    ask(disk, "first", FIRST)
    drawn(disk)
    drawn(disk)
    (block, *_) = disk.core.agents.get("first").block_table
    assert block.block_hash is not None
    disk.persistence.tier.forget_blocks([block.block_hash])
    assert drawn(disk).block_tiers[block.block_id] == BlockTier.MEMORY


def test_without_a_warm_tier_everything_is_in_memory_alone() -> None:
    core, _, _ = make_core()
    submit(core, "first", FIRST)
    while core.scheduler.has_work:
        core.step()
    pool = core.publisher.draw(StepReading(), 1e6)[0]
    assert set(pool.block_tiers) == {BlockTier.NONE, BlockTier.MEMORY}
    assert BlockState.DIRTY not in pool.block_states
