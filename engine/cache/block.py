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
    """A slot of the pool, and what it holds now; a checkpoint takes several.

    Attributes:
        block_id: Index in the pool; never changes.
        more_slots: The other slots that its content is charged; each belongs to it alone.
        ref_count: Number of tables (of agents or sequences) that hold it.
        num_idle_holds: Those of them that are agents whose caches may be taken away now.
        num_pinned_holds: Those of them that are pinned agents.
        holder_sum: Sum of the numbers of the agents that hold it: the number, if it is one.
        num_agent_holds: Those of them that are agents.
        parent_hash: Hash of the block before it; None while it is not sealed.
        block_hash: Identity of its content; None while private to its only holder.
        token_ids: The tokens it covers; empty for a working block of a running sequence.
        payload: The KV itself, opaque to this room; None for a working block, whose KV is part
            of the running sequence's own contiguous cache.
    """

    block_id: int
    more_slots: tuple[KVBlock, ...] = ()
    ref_count: int = 0
    num_idle_holds: int = 0
    num_pinned_holds: int = 0
    holder_sum: int = 0
    num_agent_holds: int = 0
    parent_hash: bytes | None = None
    block_hash: bytes | None = None
    token_ids: tuple[int, ...] = ()
    payload: object | None = None

    @property
    def num_slots(self) -> int:
        """Slots of the pool that it is charged."""
        return 1 + len(self.more_slots)

    def seal(
        self, parent_hash: bytes, block_hash: bytes, token_ids: tuple[int, ...], payload: object
    ) -> None:
        """Gives the block its identity; a sealed block is immutable.

        Raises:
            ValueError: It is sealed already.
        """
        if self.block_hash is not None:
            raise ValueError(f"block {self.block_id} is sealed already")
        self.parent_hash = parent_hash
        self.block_hash = block_hash
        self.token_ids = token_ids
        self.payload = payload

    def reset(self) -> None:
        """Forgets the content, so that the slot can be used again."""
        self.more_slots = ()
        self.parent_hash = None
        self.block_hash = None
        self.token_ids = ()
        self.payload = None


def root_hash(model_fingerprint: str, kv_format: str, namespace: str = "") -> bytes:
    """The parent of every first block: ties a chain to one model, one KV format, one namespace.

    Args:
        model_fingerprint: Identity of the model's weights, config and tokenizer.
        kv_format: Type and layout of its KV.
        namespace: Who may share the chain; empty where everybody does.
    """
    text = f"{model_fingerprint}\n{kv_format}"
    return hashlib.sha256((f"{text}\n{namespace}" if namespace else text).encode()).digest()


def block_hash(parent_hash: bytes, token_ids: Sequence[int]) -> bytes:
    """Identity of a block, or of a checkpoint: its tokens and everything before them.

    Args:
        parent_hash: Hash of the block before it, or ``root_hash`` for the first.
        token_ids: The block's tokens; 0 to 255 after the last full block for a checkpoint.
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


def end_hashes(parent_hash: bytes, token_ids: Sequence[int]) -> tuple[bytes, bytes]:
    """Where a token sequence ends, in two hashes.

    Args:
        parent_hash: Hash of the block before the sequence.
        token_ids: The sequence.

    Returns:
        The hash of its last full block (``parent_hash`` if there is none), and the hash of what
        follows that block: the name of a tail or checkpoint there.
    """
    hashes = chain_hashes(parent_hash, token_ids)
    last_hash = hashes[-1] if hashes else parent_hash
    return last_hash, block_hash(last_hash, token_ids[len(hashes) * BLOCK_TOKENS :])


def blocks_for(num_tokens: int) -> int:
    """Blocks needed to hold a number of tokens."""
    return -(-num_tokens // BLOCK_TOKENS)
