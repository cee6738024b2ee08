"""Ragged batched decode: linear layers on all sequences at once, attention on each one's own cache.

mlx-lm models read ``cache.offset``, call ``cache.update_and_fetch`` and then the function
``scaled_dot_product_attention`` that their module imported. A ``RaggedLayer`` stands in for the
cache of one layer, and that function is replaced, in the model's own module, by one that knows it.
Nothing is padded, and a sequence joins or leaves a batch by being in the list or not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache

from engine.runtime.quantised import QuantisedCache, QuantisedRows
from engine.runtime.window import WindowCache

_ATTENTION_NAME = "scaled_dot_product_attention"


class RaggedLayer:
    """One layer's attention caches of several sequences, for a step of one token each."""

    def __init__(self, caches: Sequence[Any], offset: mx.array) -> None:
        """Stands in for a layer cache.

        Args:
            caches: Each sequence's own cache of this layer.
            offset: Their offsets, shape [batch], int32.
        """
        self._caches = caches
        self._rows: list[tuple[Any, Any]] = []
        self.offset = offset

    @property
    def caches(self) -> Sequence[Any]:
        """Each sequence's own cache of this layer, for a path that appends to them itself."""
        return self._caches

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Appends one row to each sequence's cache.

        Args:
            keys: New keys, shape [batch, kv_heads, 1, head_dim].
            values: New values, shape [batch, kv_heads, 1, head_dim].

        Returns:
            The arguments; attention reads the full rows from the caches.
        """
        self._rows = [
            cache.update_and_fetch(keys[i : i + 1], values[i : i + 1])
            for i, cache in enumerate(self._caches)
        ]
        return keys, values

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """The first sequence's rows, as a stand-in: attention reads each one's own."""
        return self._rows[0]

    def make_mask(self, *args: object, **kwargs: object) -> None:
        """No mask: each sequence attends to all of its own cache."""

    def attend(
        self, attention: Callable[..., mx.array], queries: mx.array, **kwargs: Any
    ) -> mx.array:
        """Attention of each sequence over its own rows.

        Args:
            attention: The function the model would have called.
            queries: Shape [batch, heads, 1, head_dim].
            **kwargs: What the model passed on: scale, sinks.

        Returns:
            Shape [batch, heads, 1, value_dim].
        """
        parts = [
            attention(queries[i : i + 1], keys, values, cache=cache, mask=None, **kwargs)
            for i, (cache, (keys, values)) in enumerate(zip(self._caches, self._rows, strict=True))
        ]
        return mx.concatenate(parts, axis=0)


class RaggedState(ArraysCache):  # type: ignore[misc]
    """One state-space layer's states of several sequences, stacked for a step and split after.

    Some models go by the class of their cache, so this has to be an ``ArraysCache`` too.
    """

    def __init__(self, caches: Sequence[ArraysCache]) -> None:
        """Stands in for an ``ArraysCache``.

        Args:
            caches: Each sequence's own cache of this layer.
        """
        super().__init__(len(caches[0].cache))
        self._caches = caches

    def __getitem__(self, index: int) -> mx.array | None:
        """The states stacked along the batch axis; None before anybody's first token."""
        states = [cache[index] for cache in self._caches]
        like = next((state for state in states if state is not None), None)
        if like is None:
            return None
        # A sequence of one token has no state yet, and models begin with one of zeros.
        filled = [mx.zeros_like(like) if state is None else state for state in states]
        return mx.concatenate(filled, axis=0)

    def __setitem__(self, index: int, value: mx.array) -> None:
        """Gives each sequence its row back."""
        for i, cache in enumerate(self._caches):
            cache[index] = value[i : i + 1]

    def make_mask(self, *args: object, **kwargs: object) -> None:
        """No mask: nothing is padded."""

    def advance(self, num_tokens: int) -> None:
        """Moves each sequence's clock."""
        for cache in self._caches:
            cache.advance(num_tokens)


_ROWS = (KVCache, QuantisedCache, WindowCache, RotatingKVCache)


def ragged_layers(sequence_caches: Sequence[Sequence[Any]]) -> list[Any]:
    """Stand-ins for every layer, for a batch of sequences.

    Args:
        sequence_caches: For each sequence its layer caches.

    Raises:
        TypeError: A layer keeps something that cannot be batched this way.
    """
    # Layers of a kind share their offsets: one small array a step, not one a layer.
    offsets: dict[tuple[int, ...], mx.array] = {}
    return [_stand_in(caches, offsets) for caches in zip(*sequence_caches, strict=True)]


def _stand_in(caches: Sequence[Any], offsets: dict[tuple[int, ...], mx.array]) -> Any:
    """Stands in for one layer's caches of several sequences."""
    if isinstance(caches[0], _ROWS):
        key = tuple(cache.offset for cache in caches)
        if key not in offsets:
            offsets[key] = mx.array(key, dtype=mx.int32)
        return RaggedLayer(caches, offsets[key])
    if isinstance(caches[0], CacheList):
        parts = zip(*(cache.caches for cache in caches), strict=True)
        return CacheList(*(_stand_in(part, offsets) for part in parts))
    if isinstance(caches[0], ArraysCache):
        return RaggedState(caches)
    raise TypeError(f"{type(caches[0]).__name__} cannot be batched")


def install() -> None:
    """Lets every loaded mlx-lm model module hand ragged layers and quantised rows to their own.

    Safe to call again, after further model modules were loaded or their attention replaced.
    """
    for name, module in list(sys.modules.items()):
        if not name.startswith("mlx_lm.models."):
            continue
        attention = getattr(module, _ATTENTION_NAME, None)
        if attention is not None and not getattr(attention, "knows_ragged", False):
            setattr(module, _ATTENTION_NAME, _dispatch(attention))


def _dispatch(attention: Callable[..., mx.array]) -> Callable[..., mx.array]:
    def single(queries: mx.array, keys: Any, values: Any, cache: Any, **kwargs: Any) -> mx.array:
        if isinstance(keys, QuantisedRows):
            return keys.ops.attend(queries, keys, values, **kwargs)
        return attention(queries, keys, values, cache=cache, **kwargs)

    def dispatched(
        queries: mx.array,
        keys: Any,
        values: Any,
        cache: Any,
        scale: float,
        mask: mx.array | str | None,
        **kwargs: Any,
    ) -> mx.array:
        if isinstance(cache, RaggedLayer):
            return cache.attend(single, queries, scale=scale, **kwargs)
        return single(queries, keys, values, cache, scale=scale, mask=mask, **kwargs)

    dispatched.knows_ragged = True  # type: ignore[attr-defined]
    return dispatched
