"""What a model's KV cache looks like, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from engine.cache.block import BLOCK_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """Shape and cost of a model's KV cache.

    Attributes:
        num_layers: Layers that keep a cache.
        bytes_per_token: Bytes per token over all layers.
        kv_format: Names dtype and layout; part of every block's identity.
        reusable: Whether prefixes can be cut into blocks and restored. False while a layer keeps
            something else than plain keys and values.
        reason: Why not, in words; empty when reusable.
    """

    num_layers: int
    bytes_per_token: int
    kv_format: str
    reusable: bool = True
    reason: str = ""

    @property
    def block_bytes(self) -> int:
        """Bytes of one full block over all layers."""
        return self.bytes_per_token * BLOCK_TOKENS

    def num_blocks(self, budget_bytes: int) -> int:
        """Blocks that fit a budget; at least one."""
        return max(1, budget_bytes // max(1, self.block_bytes))
