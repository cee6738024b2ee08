"""What the engine tells of one block that somebody points at."""

from __future__ import annotations

import pytest

from engine.block_inquiry import MAX_OWNERS_NAMED, describe_block
from engine.cache.agents import AgentStore
from engine.cache.block import KVBlock
from engine.cache.pool import BlockPool
from engine.errors import InvalidRequestError
from engine.snapshot import BlockRow


def on_disk(block_hash: bytes) -> bool:
    return block_hash == b"\x3f" * 32


def sealed(pool: BlockPool, name: bytes, num_slots: int = 1) -> KVBlock:
    block = pool.allocate(num_slots)
    return pool.seal(block, name * 32, tuple(range(256)), "kv")


def agent(
    agents: AgentStore, name: str, table: list[KVBlock], ended_s: float, of: str = ""
) -> None:
    new = agents.resolve(name, (), "agent", of)
    agents.store(new, table, tuple(range(256 * len(table))))
    new.last_active_s = ended_s


def test_a_block_tells_its_hash_its_tokens_and_its_owners() -> None:
    pool = BlockPool(8, 100)
    agents = AgentStore(pool)
    block = sealed(pool, b"\x3f")
    agent(agents, "older", [block], 10.0)
    agent(agents, "newer", [pool.acquire(block)], 40.0, of="team")
    row = describe_block(pool, agents, (), on_disk, block.block_id, 100.0)
    assert row == BlockRow(
        block_id=block.block_id,
        block_hash="3f" * 32,
        num_tokens=256,
        is_on_disk=True,
        owners=("team: newer", "older"),
        num_owners=2,
        idle_s=60.0,
    )


def test_every_place_of_a_long_block_tells_of_it() -> None:
    pool = BlockPool(8, 100)
    agents = AgentStore(pool)
    block = sealed(pool, b"\x01", num_slots=3)
    agent(agents, "a", [block], 0.0)
    places = [block, *block.more_slots]
    rows = [describe_block(pool, agents, (), on_disk, each.block_id, 0.0) for each in places]
    assert [(row.block_hash, row.num_slots, row.owners) for row in rows] == [
        ("01" * 32, 3, ("a",))
    ] * 3


def test_no_more_than_a_few_owners_are_named_and_all_are_counted() -> None:
    pool = BlockPool(8, 100)
    agents = AgentStore(pool)
    block = sealed(pool, b"\x01")
    agent(agents, "0", [block], 0.0)
    for number in range(1, 20):
        agent(agents, str(number), [pool.acquire(block)], 0.0)
    row = describe_block(pool, agents, (), on_disk, block.block_id, 0.0)
    assert (len(row.owners), row.num_owners) == (MAX_OWNERS_NAMED, 20)


def test_blocks_that_hold_nothing_and_blocks_that_are_not_there() -> None:
    pool = BlockPool(8, 100)
    agents = AgentStore(pool)
    assert describe_block(pool, agents, (), on_disk, 7, 0.0) == BlockRow(block_id=7)
    for block_id in (-1, 8):
        with pytest.raises(InvalidRequestError, match="blocks 0 to 7"):
            describe_block(pool, agents, (), on_disk, block_id, 0.0)
