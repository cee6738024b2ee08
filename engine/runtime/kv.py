"""A sequence's cache, cut into detached blocks and checkpoints and put together again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from engine.cache.layers.config import Config
from engine.cache.layers.extractors import STATE_ELEMENT_BYTES
from engine.cache.spec import CacheSpec, LayerGroup, LayerKind, merged_groups
from engine.cache.spec_from_config import spec_difference, spec_from_config
from engine.errors import EngineFailedError
from engine.runtime.copying import copying
from engine.runtime.layer_caches import LayerCaches, leaf_caches, make_layer_caches
from engine.runtime.layer_codecs import LayerCodec, Part, bytes_per_row, codec_of
from engine.runtime.payload_layout import PayloadLayout

Payload = tuple[Part, ...]
"""What a block or a checkpoint holds: a part of each layer's cache, lists of caches unfolded."""

MakeCaches = Callable[[], LayerCaches]
"""Makes a sequence's empty caches."""


def after_a_token(model: Any, make_caches: MakeCaches) -> list[Any]:
    """All caches of a sequence of one token, lists of caches unfolded.

    Args:
        model: A loaded mlx-lm model.
        make_caches: Makes its caches.
    """
    caches = make_caches()
    mx.eval(model(mx.array([[0]]), cache=caches))
    return list(leaf_caches(caches))


def config_difference(model: Any, config: Config) -> str:
    """How what a model's layers keep differs from what its config promises.

    Args:
        model: A loaded mlx-lm model.
        config: Its config.

    Returns:
        The difference in words; empty if there is none, or if the config or the cache is not
        understood.
    """
    leaves = after_a_token(model, partial(make_layer_caches, model))
    measured = describe_cache(leaves)
    arrays = [x for _, x in tree_flatten([leaf.state for leaf in leaves]) if _is_array(x)]
    element_bytes = min((array.dtype.size for array in arrays), default=STATE_ELEMENT_BYTES)
    expected = spec_from_config(config, element_bytes)
    if expected is None or not measured.reusable:
        return ""
    return spec_difference(expected, measured)


def describe_cache(leaves: Sequence[Any]) -> CacheSpec:
    """What a model's cache looks like.

    Args:
        leaves: What ``after_a_token`` gave.
    """
    described = [_described(leaf) for leaf in leaves]
    layouts = Counter(layout for _, layout in described)
    unknown = {type(leaf).__name__ for leaf in leaves if codec_of(leaf) is None}
    unused = {"nothing in some layers" for leaf in leaves if leaf.empty()}
    reasons = sorted(unknown | unused)
    return CacheSpec(
        groups=merged_groups(group for group, _ in described),
        kv_format="v1 " + " + ".join(f"{num} layers {layout}" for layout, num in layouts.items()),
        reusable=not reasons,
        reason=f"layers keep {', '.join(reasons)}" if reasons else "",
    )


def _described(leaf: Any) -> tuple[LayerGroup, str]:
    codec = codec_of(leaf)
    if codec is not None and not leaf.empty():
        return codec.describe(leaf)
    # Charged as if it kept rows of every token: it may.
    keys, values = getattr(leaf, "keys", None), getattr(leaf, "values", None)
    known = _is_array(keys) and _is_array(values)
    group = LayerGroup(
        kind=LayerKind.FULL, num_layers=1, bytes_per_token=bytes_per_row(leaf) if known else 0
    )
    return group, type(leaf).__name__


def _is_array(value: object) -> bool:
    return isinstance(value, mx.array)


def _codec(leaf: Any) -> LayerCodec:
    codec = codec_of(leaf)
    if codec is None:
        raise EngineFailedError(f"a {type(leaf).__name__} cannot be cut into blocks")
    return codec


def payload_layout(leaves: Sequence[Any]) -> PayloadLayout:
    """What the arrays of every payload look like.

    Args:
        leaves: What ``after_a_token`` gave.

    Raises:
        EngineFailedError: A layer's cache cannot be cut into blocks.
    """
    return tuple(_codec(leaf).layout(leaf) for leaf in leaves)


def cut(caches: LayerCaches, start: int, stop: int) -> Payload:
    """Copies what a block of a range of tokens holds out of a sequence's cache.

    The copies are evaluated and share no memory with the cache: rows that are trimmed away are
    written again.

    Args:
        caches: The sequence's cache.
        start: First token.
        stop: One past the last token; at most what the caches hold.

    Raises:
        EngineFailedError: They hold less.
    """
    payload = tuple(_codec(leaf).cut(leaf, start, stop) for leaf in leaf_caches(caches))
    mx.eval(payload)
    return payload


def checkpoint(caches: LayerCaches, start: int, stop: int) -> Payload:
    """Copies what resuming after a token needs beside the blocks before ``start``.

    Args:
        caches: The sequence's cache.
        start: Where its last full block ends.
        stop: Tokens it is to be resumed after. Where layers keep windows or states, exactly what
            the caches hold.

    Raises:
        EngineFailedError: They hold something else.
    """
    payload = tuple(_codec(leaf).checkpoint(leaf, start, stop) for leaf in leaf_caches(caches))
    mx.eval(payload)
    return payload


def trim(caches: LayerCaches, num_tokens: int) -> None:
    """Takes the last tokens of a sequence's cache back.

    Args:
        caches: The sequence's cache.
        num_tokens: Tokens that stay; at most what it holds.

    Raises:
        EngineFailedError: It holds less, or a layer keeps a window or a state.
    """
    for leaf in leaf_caches(caches):
        _codec(leaf).trim(leaf, num_tokens)


def append(caches: LayerCaches, payload: Payload) -> None:
    """Appends a block to a sequence's cache, instead of computing it.

    Args:
        caches: The sequence's cache.
        payload: What ``cut`` gave.

    Raises:
        EngineFailedError: A layer keeps a window or a state.
    """
    leaves = list(leaf_caches(caches))
    for leaf, part in zip(leaves, payload, strict=True):
        _codec(leaf).append(leaf, part)
    mx.eval([leaf.state for leaf in leaves])


def gather(
    make_caches: MakeCaches, payloads: Sequence[Payload], num_tokens: int, num_capacity_tokens: int
) -> LayerCaches:
    """Builds a sequence's cache from blocks, with room to grow.

    Args:
        make_caches: Makes the model's caches.
        payloads: Blocks in order, at least one; the last a checkpoint where layers keep windows
            or states.
        num_tokens: Tokens to resume after; of the last block as many are taken as make them up.
        num_capacity_tokens: Tokens to make room for in all.

    Raises:
        EngineFailedError: The blocks are not those tokens', or the last is no checkpoint.
    """
    caches = make_caches()
    leaves = list(leaf_caches(caches))
    for index, (leaf, *parts) in enumerate(zip(leaves, *payloads, strict=True)):
        with copying(index):
            _codec(leaf).fill(leaf, parts, num_tokens, num_capacity_tokens)
    mx.eval([leaf.state for leaf in leaves])
    return caches
