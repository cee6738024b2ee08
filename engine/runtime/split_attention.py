"""Batches for models whose attention computes with its cache's rows itself.

Latent attention, for one, multiplies queries with cached keys before it calls the function that
ragged batches replace. The attention of such a model runs once per sequence, on its own cache;
all other layers still see the whole batch at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import CacheList

from engine.runtime.ragged import RaggedLayer

_ATTENTION_NAMES = ("self_attn", "attention", "attn")
"""What models call the attention of a layer."""

_originals: list[tuple[Any, Callable[..., mx.array]]] = []
"""Classes whose call was replaced, and what it was."""


def install(model: Any) -> bool:
    """Lets a model's attention take a ragged batch sequence by sequence.

    It is replaced in its class, which all models of a kind share. Safe to call again.

    Args:
        model: A loaded mlx-lm model.

    Returns:
        Whether it has attention of a known name.
    """
    classes = {
        type(module)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in _ATTENTION_NAMES
    }
    for each in classes - {replaced for replaced, _ in _originals}:
        _originals.append((each, each.__call__))
        each.__call__ = _split(each.__call__)
    return bool(classes)


def uninstall() -> None:
    """Puts back what ``install`` replaced, so that another model of that kind is tested afresh."""
    while _originals:
        replaced, original = _originals.pop()
        replaced.__call__ = original


def _split(attention: Callable[..., mx.array]) -> Callable[..., mx.array]:
    @functools.wraps(attention)
    def split(module: Any, x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        if not any(_is_ragged(value) for value in (*args, *kwargs.values())):
            return attention(module, x, *args, **kwargs)
        num_rows = x.shape[0]
        outputs = [
            attention(
                module,
                x[row : row + 1],
                *(_row(value, row, num_rows) for value in args),
                **{name: _row(value, row, num_rows) for name, value in kwargs.items()},
            )
            for row in range(num_rows)
        ]
        return mx.concatenate(outputs, axis=0)

    return split


def _is_ragged(value: Any) -> bool:
    if type(value) is CacheList:
        return any(_is_ragged(part) for part in value.caches)
    return isinstance(value, RaggedLayer)


def _row(value: Any, row: int, num_rows: int) -> Any:
    """One sequence's share of an argument."""
    if type(value) is CacheList:
        return CacheList(*(_row(part, row, num_rows) for part in value.caches))
    if isinstance(value, RaggedLayer):
        return value.caches[row]
    if isinstance(value, mx.array) and value.ndim and value.shape[0] == num_rows:
        return value[row : row + 1]
    return value
