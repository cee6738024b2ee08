"""What is in one block of a scripted pool: made up from its map, the same each time."""

from __future__ import annotations

import hashlib

from engine.errors import InvalidRequestError
from engine.snapshot import NO_OWNER, AgentRow, BlockRow, BlockState, BlockTier, EngineSnapshot

_ON_DISK = bytes([BlockTier.DISK])
_WITHOUT_NAME = (BlockState.FREE, BlockState.RUNNING)


def describe_block(snapshot: EngineSnapshot, block_id: int) -> BlockRow:
    """What is in one block.

    Raises:
        InvalidRequestError: The pool has no such block.
    """
    pool = snapshot.pool
    if not 0 <= block_id < len(pool.block_states):
        raise InvalidRequestError(
            f"there is no block {block_id}; the pool has blocks 0 to {pool.num_total_blocks - 1}"
        )
    state = BlockState(pool.block_states[block_id])
    if state is BlockState.FREE:
        return BlockRow(block_id=block_id)
    owners = _owners(snapshot, pool.block_owners[block_id], state)
    is_named = state not in _WITHOUT_NAME
    return BlockRow(
        block_id=block_id,
        block_hash=hashlib.sha256(f"block {block_id}".encode()).hexdigest() if is_named else "",
        num_tokens=pool.block_tokens if is_named else 0,
        is_on_disk=is_named and pool.block_tiers[block_id : block_id + 1] == _ON_DISK,
        owners=tuple(row.title for row in owners),
        num_owners=len(owners),
        idle_s=min((row.idle_s for row in owners), default=None),
    )


def _owners(snapshot: EngineSnapshot, owner: int, state: BlockState) -> list[AgentRow]:
    """The owner that the map names, and for a shared block those that share something."""
    agents = snapshot.agents
    if owner == NO_OWNER or owner >= len(agents):
        return []
    if state is not BlockState.SHARED:
        return [agents[owner]]
    others = [row for row in agents if row.shared_bytes and row is not agents[owner]]
    return [agents[owner], *others]
