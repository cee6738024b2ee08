"""Layer caches of a sequence, cut into detached blocks and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, make_prompt_cache

from engine.cache.block import blocks_for
from engine.cache.spec import CacheSpec

LayerCaches = list[Any]
"""A sequence's own cache: one mlx-lm cache per layer."""

Payload = tuple[tuple[mx.array, mx.array], ...]
"""KV of a block: keys and values of each layer, shape [1, kv_heads, tokens, head_dim]."""


def describe_cache(model: Any) -> CacheSpec:
    """Finds out what a model's cache looks like by running one token through it.

    Args:
        model: A loaded mlx-lm model.
    """
    caches = make_prompt_cache(model)
    mx.eval(model(mx.array([[0]]), cache=caches))
    bytes_per_token = sum(_bytes_per_token(cache) for cache in caches)
    other = sorted({type(cache).__name__ for cache in caches if type(cache) is not KVCache})
    layout = "-".join(_layout(cache) for cache in caches[:1])
    return CacheSpec(
        num_layers=len(caches),
        bytes_per_token=max(1, bytes_per_token),
        kv_format=f"v1 {len(caches)} layers {layout}",
        reusable=not other,
        reason=f"layers keep {', '.join(other)}" if other else "",
    )


def _bytes_per_token(cache: Any) -> int:
    keys, values = getattr(cache, "keys", None), getattr(cache, "values", None)
    if not isinstance(keys, mx.array) or not isinstance(values, mx.array):
        return 0
    return sum(array.nbytes // array.shape[2] for array in (keys, values))


def _layout(cache: Any) -> str:
    keys, values = getattr(cache, "keys", None), getattr(cache, "values", None)
    if not isinstance(keys, mx.array) or not isinstance(values, mx.array):
        return type(cache).__name__
    return f"{keys.dtype} k{keys.shape[1]}x{keys.shape[3]} v{values.shape[1]}x{values.shape[3]}"


def cut(caches: LayerCaches, start: int, stop: int) -> Payload:
    """Copies a range of tokens out of a sequence's cache.

    The copies are evaluated and keep no bigger buffer alive. A cut of a whole buffer may share it:
    rows that were written are never written again.

    Args:
        caches: Layer caches, all ``KVCache``.
        start: First token.
        stop: One past the last token; at most the caches' offset.
    """
    payload = tuple(
        (
            mx.contiguous(cache.keys[..., start:stop, :]),
            mx.contiguous(cache.values[..., start:stop, :]),
        )
        for cache in caches
    )
    mx.eval(payload)
    return payload


def gather(
    payloads: Sequence[Payload], num_last_tokens: int, num_capacity_tokens: int
) -> LayerCaches:
    """Builds a sequence's cache from blocks, with room to grow.

    Args:
        payloads: Blocks in order, at least one.
        num_last_tokens: Tokens to take of the last block.
        num_capacity_tokens: Tokens to make room for in all.
    """
    caches: LayerCaches = []
    for layer in range(len(payloads[0])):
        cache = KVCache()
        cache.keys = _join([p[layer][0] for p in payloads], num_last_tokens, num_capacity_tokens)
        cache.values = _join([p[layer][1] for p in payloads], num_last_tokens, num_capacity_tokens)
        cache.offset = sum(p[layer][0].shape[2] for p in payloads[:-1]) + num_last_tokens
        caches.append(cache)
    mx.eval([(cache.keys, cache.values) for cache in caches])
    return caches


def _join(parts: list[mx.array], num_last_tokens: int, num_capacity_tokens: int) -> mx.array:
    parts = [*parts[:-1], parts[-1][..., :num_last_tokens, :]]
    num_tokens = sum(part.shape[2] for part in parts)
    # mlx-lm's cache grows in steps of its own by copying itself; room made here saves that.
    num_room = max(0, blocks_for(num_capacity_tokens) * KVCache.step - num_tokens)
    if num_room:
        heads, width = parts[0].shape[1], parts[0].shape[3]
        parts.append(mx.zeros((1, heads, num_room, width), parts[0].dtype))
    return mx.concatenate(parts, axis=2)
