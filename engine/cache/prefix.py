"""Finding how much of a prompt is in the cache already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.cache.block import BLOCK_TOKENS, KVBlock
from engine.cache.checkpoint import Place
from engine.cache.pool import BlockPool


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The longest cached prefix of a prompt.

    Attributes:
        blocks: Full blocks, in order.
        partial: A block whose first tokens come next, or the checkpoint at the end; None where
            the match ends with a full block.
        num_partial_tokens: How many of its tokens match; may be 0 for a checkpoint.
    """

    blocks: tuple[KVBlock, ...] = ()
    partial: KVBlock | None = None
    num_partial_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        """Length of the match in tokens."""
        return len(self.blocks) * BLOCK_TOKENS + self.num_partial_tokens


def match_prefix(
    pool: BlockPool,
    hashes: Sequence[bytes],
    token_ids: Sequence[int],
    own_table: Sequence[KVBlock] = (),
) -> PrefixMatch:
    """Matches whole blocks by content, then the beginning of one of the agent's own blocks.

    At least one token of the prompt is left unmatched: its logits are needed.

    Args:
        pool: Where blocks are looked up.
        hashes: ``chain_hashes`` of the prompt.
        token_ids: The prompt.
        own_table: The agent's blocks from its last turn; the one that follows the matched blocks
            may match in part (a changed end, or the unsealed tail).
    """
    limit = len(token_ids) - 1
    blocks = known_blocks(pool, hashes[: limit // BLOCK_TOKENS])
    if not _continues(own_table, blocks):
        return PrefixMatch(tuple(blocks))
    candidate = own_table[len(blocks)]
    start = len(blocks) * BLOCK_TOKENS
    num_partial = common_prefix(candidate.token_ids, token_ids[start:limit])
    if num_partial == 0:
        return PrefixMatch(tuple(blocks))
    return PrefixMatch(tuple(blocks), candidate, num_partial)


def match_checkpoint(
    pool: BlockPool, hashes: Sequence[bytes], places: Sequence[Place]
) -> PrefixMatch:
    """Matches up to the last place of a prompt that has a checkpoint and all blocks before it.

    Args:
        pool: Where blocks and checkpoints are looked up.
        hashes: ``chain_hashes`` of the prompt.
        places: Where a checkpoint may be, the last place first.
    """
    if not places:
        return PrefixMatch()
    blocks = known_blocks(pool, hashes[: places[0].num_blocks])
    for place in places:
        checkpoint = pool.lookup(place.name) if place.num_blocks <= len(blocks) else None
        if checkpoint is not None:
            return PrefixMatch(tuple(blocks[: place.num_blocks]), checkpoint, place.num_rest)
    return PrefixMatch()


def known_blocks(pool: BlockPool, hashes: Sequence[bytes]) -> list[KVBlock]:
    """The blocks of a chain that are in the pool, up to the first that is not."""
    blocks: list[KVBlock] = []
    for block_hash in hashes:
        block = pool.lookup(block_hash)
        if block is None:
            break
        blocks.append(block)
    return blocks


def _continues(own_table: Sequence[KVBlock], blocks: Sequence[KVBlock]) -> bool:
    """Whether the agent's own table holds these blocks and at least one more after them.

    Equal content has one block in the pool, so comparing the last one compares the whole chain.
    """
    if len(own_table) <= len(blocks):
        return False
    return not blocks or own_table[len(blocks) - 1] is blocks[-1]


def common_prefix(left: Sequence[object], right: Sequence[object]) -> int:
    """How many tokens (or hashes) two sequences have in common at their beginning."""
    num_common = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        num_common += 1
    return num_common
