"""What is in one block of the pool, for a person who points at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache.block import KVBlock
from engine.cache.pool import BlockPool
from engine.errors import InvalidRequestError
from engine.sequence import Sequence
from engine.snapshot import BlockRow

MAX_OWNERS_NAMED = 8


def describe_block(
    pool: BlockPool,
    agents: AgentStore,
    turns: Iterable[Sequence],
    has_on_disk: Callable[[bytes], bool],
    block_id: int,
    now_s: float,
) -> BlockRow:
    """What is in one block.

    It looks through the tables of all agents: nothing to do in a step, but a person who points at
    blocks asks once a second or so.

    Args:
        pool: The pool.
        agents: All agents.
        turns: Every sequence, running or waiting.
        has_on_disk: Whether the content of that hash is on disk.
        block_id: Its place in the block map.
        now_s: Monotonic seconds.

    Raises:
        InvalidRequestError: The pool has no such place.
    """
    if not 0 <= block_id < pool.num_total_blocks:
        raise InvalidRequestError(
            f"there is no block {block_id}; the pool has blocks 0 to {pool.num_total_blocks - 1}"
        )
    if block_id >= pool.num_used_slots:
        return BlockRow(block_id=block_id)
    place = pool[block_id]
    held = [(turn.agent, found) for turn in turns if (found := _find(place, _table(turn)))]
    busy = list(dict.fromkeys(agent for agent, _ in held))
    kept = [(a, found) for a in reversed(list(agents)) if (found := _find(place, a.block_table))]
    resting = [agent for agent, _ in kept if agent not in busy]
    holders = [*busy, *resting]
    # On its own, a place that a longer block takes looks free.
    block = next((found for _, found in (*held, *kept)), place)
    name = block.block_hash
    return BlockRow(
        block_id=block_id,
        block_hash=name.hex() if name is not None else "",
        num_tokens=len(block.token_ids),
        num_slots=block.num_slots,
        is_on_disk=name is not None and has_on_disk(name),
        owners=tuple(_title(agent) for agent in holders[:MAX_OWNERS_NAMED]),
        num_owners=len(holders),
        idle_s=_idle_s(busy, resting, now_s),
    )


def _table(turn: Sequence) -> Iterator[KVBlock]:
    yield from turn.block_table
    yield from turn.restored
    yield from turn.working_blocks


def _find(place: KVBlock, table: Iterable[KVBlock]) -> KVBlock | None:
    """The block of a table that takes a place of the pool."""
    return next((each for each in table if each is place or place in each.more_slots), None)


def _idle_s(busy: list[Agent], resting: list[Agent], now_s: float) -> float | None:
    if busy:
        return 0.0
    return min((now_s - agent.last_active_s for agent in resting), default=None)


def _title(agent: Agent) -> str:
    return f"{agent.namespace}: {agent.agent_id}" if agent.namespace else agent.agent_id
