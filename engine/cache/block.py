"""One block of KV cache and the hash chain that gives it its identity."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK_TOKENS = 256
"""Tokens in a full block."""


@dataclass(slots=True, eq=False)
class KVBlock:
    """A slot of the pool, and what it holds now.

    Attributes:
        block_id: Index in the pool; never changes.
        ref_count: Number of tables (of agents or sequences) that hold it.
        block_hash: Identity of a full block's content; None while private to its only holder.
        token_ids: The tokens it covers; empty for a working block of a running sequence.
        payload: The KV itself, opaque to this room; None for a working block, whose KV is part
            of the running sequence's own contiguous cache.
    """

    block_id: int
    ref_count: int = 0
    block_hash: bytes | None = None
    token_ids: tuple[int, ...] = ()
    payload: object | None = None

    def seal(self, block_hash: bytes, token_ids: tuple[int, ...], payload: object) -> None:
        """Gives the block its identity; a sealed block is immutable.

        Raises:
            ValueError: It is sealed already.
        """
        if self.block_hash is not None:
            raise ValueError(f"block {self.block_id} is sealed already")
        self.block_hash = block_hash
        self.token_ids = token_ids
        self.payload = payload

    def reset(self) -> None:
        """Forgets the content, so that the slot can be used again."""
        self.block_hash = None
        self.token_ids = ()
        self.payload = None


def root_hash(model_fingerprint: str, kv_format: str) -> bytes:
    """The parent of every first block: ties a chain to one model and one KV format."""
    return hashlib.sha256(f"{model_fingerprint}\n{kv_format}".encode()).digest()


def block_hash(parent_hash: bytes, token_ids: Sequence[int]) -> bytes:
    """Identity of a full block: its tokens and everything before them.

    Args:
        parent_hash: Hash of the block before it, or ``root_hash`` for the first.
        token_ids: The block's tokens.
    """
    digest = hashlib.sha256(parent_hash)
    digest.update(array("I", token_ids).tobytes())
    return digest.digest()


def chain_hashes(parent_hash: bytes, token_ids: Sequence[int]) -> list[bytes]:
    """Hashes of all full blocks of a token sequence, first block first."""
    hashes = []
    for start in range(0, len(token_ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        parent_hash = block_hash(parent_hash, token_ids[start : start + BLOCK_TOKENS])
        hashes.append(parent_hash)
    return hashes


def blocks_for(num_tokens: int) -> int:
    """Blocks needed to hold a number of tokens."""
    return -(-num_tokens // BLOCK_TOKENS)
