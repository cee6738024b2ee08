"""Where an agent was at the end of a turn: the blocks and the checkpoint that lead there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.cache.block import BLOCK_TOKENS, KVBlock, block_hash
from engine.cache.pool import BlockPool
from engine.cache.prefix import known_blocks
from engine.cache.turn_history import TurnMark
from engine.errors import InvalidRequestError

if TYPE_CHECKING:
    from engine.cache.agent import Agent

ParentOnDisk = Callable[[bytes], bytes | None]
"""Hash of the block before one that is on disk; None for one that is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedTable:
    """An agent's cache as it is on disk.

    Attributes:
        block_hashes: Its blocks, in order; the last may be a tail or a checkpoint.
        num_tokens: Tokens those blocks cover.
        tail_token_ids: Tokens of the tail; empty when all blocks are full.
    """

    block_hashes: tuple[bytes, ...]
    num_tokens: int
    tail_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What another agent can start from.

    Attributes:
        blocks: What is in memory, from the beginning on.
        token_ids: The tokens to use of that.
        saved: What is on disk; None if nothing is.
    """

    blocks: tuple[KVBlock, ...]
    token_ids: tuple[int, ...]
    saved: SavedTable | None = None


def lineage_at(
    pool: BlockPool, parent_on_disk: ParentOnDisk, agent: Agent, turn: int | None
) -> Lineage:
    """Where an agent was at the end of a turn.

    Args:
        pool: What is in memory.
        parent_on_disk: What is on disk.
        agent: The agent.
        turn: Number of the turn; None is where the agent is now.

    Raises:
        InvalidRequestError: That place is neither in memory nor on disk; the message names the
            turns that are.
    """
    if turn is None or _is_at(agent, turn):
        return Lineage(
            blocks=tuple(agent.block_table), token_ids=agent.token_ids, saved=agent.saved
        )
    mark = agent.history.get(turn)
    hashes = find_chain(pool, parent_on_disk, mark) if mark else None
    if mark is None or hashes is None:
        there = [m.number for m in agent.history if is_resumable(pool, parent_on_disk, agent, m)]
        turns = ", ".join(map(str, there)) or "none"
        raise InvalidRequestError(
            f"the end of turn {turn} of {agent.agent_id!r} cannot be had; these can: {turns}"
        )
    blocks = known_blocks(pool, hashes)
    token_ids = [token for block in blocks for token in block.token_ids]
    end = _end(pool, agent.block_table, mark, hashes) if len(blocks) == len(hashes) else None
    if end is not None:
        blocks.append(end)
        token_ids += end.token_ids[: mark.num_tokens % BLOCK_TOKENS]
    return Lineage(
        blocks=tuple(blocks),
        token_ids=tuple(token_ids),
        saved=_saved(parent_on_disk, mark, hashes),
    )


def is_resumable(
    pool: BlockPool, parent_on_disk: ParentOnDisk, agent: Agent, mark: TurnMark
) -> bool:
    """Whether the end of a turn can be had, in memory or on disk."""
    return _is_at(agent, mark.number) or find_chain(pool, parent_on_disk, mark) is not None


def is_end_there(pool: BlockPool, parent_on_disk: ParentOnDisk, mark: TurnMark) -> bool:
    """Whether the very end of a turn is there: quickly told, and as a rule the rest is there too.

    The ends of chains are the first to go, in memory and on disk.
    """
    if not mark.num_tokens:
        return False
    if mark.has_checkpoint:
        return _is_there(pool, parent_on_disk, mark.end_hash)
    is_short = mark.num_tokens < BLOCK_TOKENS
    return is_short or _is_there(pool, parent_on_disk, mark.last_hash)


def _is_at(agent: Agent, turn: int) -> bool:
    """Whether a turn is the one whose end the agent's cache is."""
    last = agent.history.last
    num_saved = agent.saved.num_tokens if agent.saved else 0
    num_known = len(agent.token_ids) if agent.block_table else num_saved
    return last is not None and last.number == turn and last.num_tokens == num_known


def find_chain(
    pool: BlockPool, parent_on_disk: ParentOnDisk, mark: TurnMark
) -> tuple[bytes, ...] | None:
    """Hashes of the full blocks up to a turn's end; None where it cannot be resumed.

    Every block is asked for the one before it, in memory or on disk.
    """
    if not mark.num_tokens:
        return None
    if mark.has_checkpoint and not _is_there(pool, parent_on_disk, mark.end_hash):
        return None
    hashes: list[bytes] = []
    name = mark.last_hash
    while len(hashes) < mark.num_tokens // BLOCK_TOKENS:
        block = pool.lookup(name)
        parent = block.parent_hash if block is not None else parent_on_disk(name)
        if parent is None:
            return None
        hashes.append(name)
        name = parent
    return tuple(reversed(hashes))


def _is_there(pool: BlockPool, parent_on_disk: ParentOnDisk, name: bytes) -> bool:
    return pool.lookup(name) is not None or parent_on_disk(name) is not None


def _end(
    pool: BlockPool, table: Sequence[KVBlock], mark: TurnMark, hashes: Sequence[bytes]
) -> KVBlock | None:
    """What holds the tokens after the last full block, in memory."""
    if mark.has_checkpoint:
        return pool.lookup(mark.end_hash)
    num_rest = mark.num_tokens % BLOCK_TOKENS
    index = len(hashes)
    if (
        not num_rest
        or len(table) <= index
        or (hashes and table[index - 1].block_hash != hashes[-1])
    ):
        return None
    # The agent went on from there, so its next block begins with what was the turn's tail.
    block = table[index]
    is_it = block_hash(mark.last_hash, block.token_ids[:num_rest]) == mark.end_hash
    return block if is_it else None


def _saved(
    parent_on_disk: ParentOnDisk, mark: TurnMark, hashes: Sequence[bytes]
) -> SavedTable | None:
    num_saved = 0
    while num_saved < len(hashes) and parent_on_disk(hashes[num_saved]) is not None:
        num_saved += 1
    names, num_tokens = tuple(hashes[:num_saved]), num_saved * BLOCK_TOKENS
    is_whole = num_saved == len(hashes) and mark.has_checkpoint
    if is_whole and parent_on_disk(mark.end_hash) is not None:
        names, num_tokens = (*names, mark.end_hash), mark.num_tokens
    return SavedTable(block_hashes=names, num_tokens=num_tokens) if names else None
