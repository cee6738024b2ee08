"""What goes to the disk and comes back: blocks, agents, and the tier's own numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.cache.block import BLOCK_TOKENS, root_hash
from engine.cache.block import block_hash as hash_of
from engine.cache.reply import ReplyTokens
from engine.cache.turn_history import TurnHistory, TurnMark
from engine.snapshot import DurationsRow

DTYPE_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}
"""Bytes per element of each safetensors type."""

HASH_BYTES = 32

JsonScalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class KVSpace:
    """One model and one KV format. Blocks of different spaces never mix.

    Attributes:
        fingerprint: Identity of the model's weights, config and tokenizer.
        kv_format: Type and layout of its KV.
    """

    fingerprint: str
    kv_format: str

    @property
    def root_hash(self) -> bytes:
        """Parent of every first block that all may share."""
        return self.root_hash_of("")

    def root_hash_of(self, namespace: str) -> bytes:
        """Parent of every first block of a namespace."""
        return root_hash(self.fingerprint, self.kv_format, namespace)

    @property
    def name(self) -> str:
        """A name that is safe in a path, whatever the fingerprint holds."""
        return self.root_hash.hex()[:16]


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """One tensor as bytes.

    Attributes:
        dtype: Type as safetensors names it, e.g. ``F32`` or ``BF16``.
        shape: Its axes. A layer that keeps nothing in this block has an axis of 0.
        data: Elements in row order, little endian.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    def __post_init__(self) -> None:
        """Checks that the length fits.

        Raises:
            ValueError: Unknown type, length and shape differ, or the data lies scattered.
        """
        num_bytes = tensor_bytes(self.dtype, self.shape)
        view = memoryview(self.data)
        if view.nbytes != num_bytes or not view.c_contiguous:
            raise ValueError(f"{self.dtype} {self.shape} takes {num_bytes} bytes in one piece")

    @property
    def num_bytes(self) -> int:
        """Length of the data."""
        return memoryview(self.data).nbytes


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor.

    Raises:
        ValueError: The type is unknown.
    """
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"unknown tensor type {dtype!r}")
    return DTYPE_BYTES[dtype] * math.prod(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """A block of KV as bytes.

    Attributes:
        block_hash: Identity of the content: ``engine.cache.block.block_hash`` of parent and tokens.
        parent_hash: Hash of the block before it, or the space's root.
        token_ids: Its tokens, 0 to 256; fewer than 256 in an agent's tail or a checkpoint.
        tensors: Its tensors, in an order that is the same for all blocks of a space, as are
            their number, types and ranks.
    """

    block_hash: bytes
    parent_hash: bytes
    token_ids: tuple[int, ...]
    tensors: tuple[TensorBytes, ...]

    def __post_init__(self) -> None:
        """Checks its identity.

        Raises:
            ValueError: The hash is not that of parent and tokens, or the number of tokens is out
                of range.
        """
        if len(self.parent_hash) != HASH_BYTES:
            raise ValueError(f"a hash has {HASH_BYTES} bytes")
        if self.block_hash != hash_of(self.parent_hash, self.token_ids):
            raise ValueError("a block's hash is not that of its parent and tokens")
        if len(self.token_ids) > BLOCK_TOKENS:
            raise ValueError(f"a block has up to {BLOCK_TOKENS} tokens, not {len(self.token_ids)}")

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.num_bytes for tensor in self.tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """What has to survive a restart of an agent whose cache is on disk.

    Attributes:
        agent_id: Its name.
        namespace: Whose it is.
        named_here: Whether the name was made here, because the client sent none.
        protocol: How it talks to us; for display.
        pinned: Whether its blocks are kept from eviction.
        block_hashes: Its blocks, in order; the last may be a tail or a checkpoint.
        num_tokens: Tokens those blocks cover.
        tail_token_ids: Tokens of the tail; empty when all blocks are full. Known without reading
            the tail, so that it can be matched against a prompt first.
        prompt_digest: A digest of the prompt of its last turn, made by the caller.
        num_prompt_tokens: Length of that prompt.
        num_turns: Turns finished.
        last_active_time: When its last turn ended, wall-clock seconds since the epoch.
        last_turn: A few numbers of its last turn.
        turns: Marks of its last turns, oldest first.
        replies: Replies of its conversation that the tokenizer would write in other tokens.
    """

    agent_id: str
    namespace: str = ""
    named_here: bool = False
    protocol: str = "local"
    pinned: bool = False
    block_hashes: tuple[bytes, ...] = ()
    num_tokens: int = 0
    tail_token_ids: tuple[int, ...] = ()
    prompt_digest: bytes = b""
    num_prompt_tokens: int = 0
    num_turns: int = 0
    last_active_time: float = 0.0
    last_turn: Mapping[str, JsonScalar] = field(default_factory=dict)
    turns: tuple[TurnMark, ...] = ()
    replies: tuple[ReplyTokens, ...] = ()

    @property
    def checkpoint_hashes(self) -> tuple[bytes, ...]:
        """Checkpoints beside its table that it can go back to."""
        return tuple(h for h in TurnHistory(self.turns).kept_hashes if h not in self.block_hashes)

    def cut(self, num_blocks: int, num_tokens: int) -> AgentRecord:
        """The same agent with only its first blocks.

        Args:
            num_blocks: How many to keep.
            num_tokens: Tokens that these cover.
        """
        if num_blocks >= len(self.block_hashes):
            return self
        return replace(
            self,
            block_hashes=self.block_hashes[:num_blocks],
            num_tokens=num_tokens,
            tail_token_ids=(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStats:
    """The tier's numbers at one moment.

    Attributes:
        is_on: Whether blocks are being written.
        reason_off: Why not, in words; empty when on.
        bytes_used: Bytes of all block files, of every model.
        budget_bytes: What they may take together.
        num_blocks: Block files.
        num_pending: Blocks that wait to be written.
        pending_bytes: Bytes of those, in memory.
        num_quarantined: Files set aside since the start.
        num_evicted: Blocks removed for room since the start.
        write_durations: How long blocks took to be durable.
    """

    is_on: bool = False
    reason_off: str = ""
    bytes_used: int = 0
    budget_bytes: int = 0
    num_blocks: int = 0
    num_pending: int = 0
    pending_bytes: int = 0
    num_quarantined: int = 0
    num_evicted: int = 0
    write_durations: DurationsRow = field(default_factory=DurationsRow)
