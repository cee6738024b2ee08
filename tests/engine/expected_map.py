"""The block map as it must be, found by looking through every table."""

from __future__ import annotations

from collections import defaultdict

from engine.cache.agent import Agent
from engine.cache.block import KVBlock
from engine.core import EngineCore
from engine.publisher import StepReading
from engine.snapshot import NO_OWNER, BlockState, BlockTier


def check_map(core: EngineCore) -> None:
    """Compares the map that is drawn with the one that is expected, slot by slot.

    Whether a block is on disk changes behind the engine's back, so that is left out.
    """
    pool, rows = core.publisher.draw(StepReading(), 1e6)
    order = list(core.agents)[::-1]
    assert [(row.agent_id, row.namespace) for row in rows] == [
        (a.agent_id, a.namespace) for a in order
    ]
    owners = _holders(core)
    numbers = {agent: number for number, agent in enumerate(order)}
    for block in core.pool:
        slots = (block, *block.more_slots)
        if not block.ref_count and block.block_hash is None:
            continue
        for slot in slots:
            state = BlockState(pool.block_states[slot.block_id])
            state = BlockState.HOT if state is BlockState.DIRTY else state
            expected = _state(block, owners[block.block_id])
            assert state is expected, f"{state!r} instead of {expected!r}: {block}"
            if len(owners[block.block_id]) == 1:
                (owner,) = owners[block.block_id]
                assert pool.block_owners[slot.block_id] == numbers[owner]
            elif owners[block.block_id]:
                assert pool.block_owners[slot.block_id] == NO_OWNER
            assert pool.block_tiers[slot.block_id] != BlockTier.NONE
    num_free = pool.block_states.count(BlockState.FREE)
    assert num_free == pool.num_free_blocks == core.pool.num_free_blocks
    assert pool.block_tiers.count(BlockTier.NONE) == num_free
    assert pool.num_cached_blocks == pool.block_states.count(BlockState.CACHED)
    for row, agent in zip(rows, order, strict=True):
        if not agent.num_active:
            num_slots = sum(block.num_slots for block in agent.block_table)
            assert row.hot_bytes == num_slots * core.pool.block_bytes
            assert row.pinned == agent.pinned
            assert len(row.turns) == min(20, len(agent.history))


def _holders(core: EngineCore) -> defaultdict[int, set[Agent]]:
    holders: defaultdict[int, set[Agent]] = defaultdict(set)
    for agent in core.agents:
        for block in agent.block_table:
            holders[block.block_id].add(agent)
    for sequence in core.scheduler:
        for table in (sequence.block_table, sequence.working_blocks, sequence.restored):
            for block in table:
                holders[block.block_id].add(sequence.agent)
    return holders


def _state(block: KVBlock, holders: set[Agent]) -> BlockState:
    if not holders:
        return BlockState.CACHED
    if block.payload is None:
        return BlockState.RUNNING
    if len(holders) > 1:
        return BlockState.SHARED
    return BlockState.PINNED if block.num_pinned_holds else BlockState.HOT
