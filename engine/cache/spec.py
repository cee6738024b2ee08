"""What a model's KV cache looks like, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from engine.cache.block import BLOCK_TOKENS

MIN_BLOCK_BYTES = 64 * 1024
"""What a block is charged at least: its tokens and names cost memory too, even where no layer
keeps rows in it."""


class LayerKind(StrEnum):
    """What a layer keeps of the tokens before."""

    FULL = "full"
    """Rows of every token: full attention, latent attention."""
    WINDOW = "window"
    """Rows of the last tokens only: sliding-window attention."""
    STATE = "state"
    """A state of fixed size: state-space and linear-attention layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """Layers of one kind and shape.

    Attributes:
        kind: What they keep.
        num_layers: How many there are.
        bytes_per_token: Bytes of one token's rows, over the group; 0 for states.
        window_tokens: Tokens whose rows a window layer keeps; 0 for the other kinds.
        state_bytes: Bytes of the states, over the group; 0 for the other kinds.
    """

    kind: LayerKind
    num_layers: int
    bytes_per_token: int = 0
    window_tokens: int = 0
    state_bytes: int = 0

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes that resuming at one place needs beside the rows of every token."""
        return self.bytes_per_token * self.window_tokens + self.state_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """Shape and cost of a model's KV cache.

    Rows of full layers are cut into blocks and can be resumed after any token. What the other
    layers keep is stored in *checkpoints*: such a model can only be resumed where one was made.

    Attributes:
        groups: Its layers by kind and shape.
        kv_format: Names dtype and layout; part of every block's identity.
        reusable: Whether prefixes can be cut into blocks and restored. False while a layer keeps
            something that is not understood here.
        reason: Why not, in words; empty when reusable.
    """

    groups: tuple[LayerGroup, ...]
    kv_format: str
    reusable: bool = True
    reason: str = ""

    @property
    def num_layers(self) -> int:
        """Layers that keep a cache."""
        return sum(group.num_layers for group in self.groups)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of the rows that are kept of every token, over all full layers."""
        return sum(g.bytes_per_token for g in self.groups if g.kind is LayerKind.FULL)

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of what a checkpoint holds beside rows of full layers; 0 where none is needed."""
        return sum(group.checkpoint_bytes for group in self.groups)

    @property
    def needs_checkpoints(self) -> bool:
        """Whether it can be resumed only where a checkpoint was made, not after any token."""
        return any(group.kind is not LayerKind.FULL for group in self.groups)

    @property
    def block_bytes(self) -> int:
        """What one full block is charged: the rows of all full layers."""
        return max(MIN_BLOCK_BYTES, self.bytes_per_token * BLOCK_TOKENS)

    @property
    def checkpoint_slots(self) -> int:
        """Slots of the pool that a checkpoint is charged beside its own rows of full layers.

        A running sequence is charged as much for what its own cache keeps of this.
        """
        return -(-self.checkpoint_bytes // self.block_bytes)

    def num_blocks(self, budget_bytes: int) -> int:
        """Blocks that fit a budget; at least one."""
        return max(1, budget_bytes // self.block_bytes)


def merged_groups(layers: Iterable[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Layers of the same kind and shape put together, in order of first appearance.

    Args:
        layers: Groups, as a rule of one layer each.
    """
    groups: dict[tuple[LayerKind, int, int, int], LayerGroup] = {}
    for one in layers:
        shape = (
            one.kind,
            one.window_tokens,
            one.bytes_per_token // one.num_layers,
            one.state_bytes // one.num_layers,
        )
        group = groups.get(shape)
        groups[shape] = one if group is None else _sum(group, one)
    return tuple(groups.values())


def _sum(group: LayerGroup, one: LayerGroup) -> LayerGroup:
    return replace(
        group,
        num_layers=group.num_layers + one.num_layers,
        bytes_per_token=group.bytes_per_token + one.bytes_per_token,
        state_bytes=group.state_bytes + one.state_bytes,
    )
