"""The caches of a sequence: one per layer, of the classes that blocks are cut from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlx_lm.models.cache import CacheList, KVCache, RotatingKVCache, make_prompt_cache

from engine.runtime.window import WindowCache

LayerCaches = list[Any]
"""A sequence's own cache: for each layer what the model's code expects there."""


MakeFullCache = Callable[[], Any]
"""Makes the cache of a layer that keeps rows of every token."""


def make_layer_caches(
    model: Any, max_window_tokens: int | None = None, make_full: MakeFullCache = KVCache
) -> LayerCaches:
    """Empty caches for one sequence.

    Args:
        model: A loaded mlx-lm model.
        max_window_tokens: Makes wider windows this narrow, to test with few tokens what happens
            beyond them.
        make_full: Makes the caches of layers that keep rows of every token.
    """
    return [_chosen(cache, max_window_tokens, make_full) for cache in make_prompt_cache(model)]


def _chosen(cache: Any, max_window_tokens: int | None, make_full: MakeFullCache) -> Any:
    """The class used here for a layer, in place of the one mlx-lm chose."""
    if type(cache) is CacheList:
        return CacheList(*(_chosen(part, max_window_tokens, make_full) for part in cache.caches))
    if type(cache) is KVCache:
        return make_full()
    if type(cache) is RotatingKVCache and cache.keep == 0:
        return WindowCache(min(cache.max_size, max_window_tokens or cache.max_size))
    return cache


def leaf_caches(caches: Sequence[Any]) -> Iterator[Any]:
    """All caches in order, those inside of lists of caches one by one.

    Args:
        caches: A sequence's caches.
    """
    for cache in caches:
        if type(cache) is CacheList:
            yield from leaf_caches(cache.caches)
        else:
            yield cache
