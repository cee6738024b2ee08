"""The window cache gives what mlx-lm's own cache for such layers gives, and its rows in order."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from engine.runtime.layer_caches import make_layer_caches
from engine.runtime.window import WindowCache
from tests.runtime.tiny_models import WINDOWED, make_tiny_model

SLICES = (1, 7, 30, 1, 1, 256, 100, 1)
WINDOWS = (1, 2, 16, 40, 300)


def rows(first: int, num_tokens: int) -> mx.array:
    """One head of width 1 whose value is the token's place."""
    return mx.arange(first, first + num_tokens, dtype=mx.float32).reshape(1, 1, num_tokens, 1)


def places(array: mx.array) -> list[int]:
    return [int(value) for value in np.array(array).reshape(-1)]


def logits_of(model: Any, caches: list[Any], slices: tuple[int, ...]) -> np.ndarray[Any, Any]:
    tokens = np.random.default_rng(5).integers(0, 100, sum(slices))
    outputs, at = [], 0
    for length in slices:
        outputs.append(np.array(model(mx.array(tokens[None, at : at + length]), cache=caches)[0]))
        at += length
    return np.concatenate(outputs)


@pytest.mark.parametrize("window", WINDOWS)
def test_it_returns_the_new_rows_and_those_they_see(window: int) -> None:
    cache, at = WindowCache(window), 0
    for num_new in SLICES:
        keys, values = cache.update_and_fetch(rows(at, num_new), -rows(at, num_new))
        at += num_new
        num_expected = min(at, window - 1 + num_new)
        assert places(keys) == list(range(at - num_expected, at))
        assert places(values) == [-place for place in places(keys)]
        assert places(cache.keys_and_values()[0]) == places(keys)
        assert cache.offset == at


@pytest.mark.parametrize("window", WINDOWS)
def test_the_last_rows_are_there_after_every_slice(window: int) -> None:
    cache, at = WindowCache(window), 0
    for num_new in SLICES:
        cache.update_and_fetch(rows(at, num_new), rows(at, num_new))
        at += num_new
        assert places(cache.last_rows()[0]) == list(range(max(0, at - window), at))


@pytest.mark.parametrize("window", [16, 300, 1024])
def test_its_buffer_stays_near_the_window_however_long_the_sequence(window: int) -> None:
    cache = WindowCache(window)
    cache.update_and_fetch(rows(0, 4000), rows(0, 4000))
    for place in range(4000, 4700):
        cache.update_and_fetch(rows(place, 1), rows(place, 1))
        assert cache.keys.shape[2] <= window + 2 * min(window, 256)


def test_it_moves_its_rows_once_per_slack_not_once_per_token() -> None:
    cache, num_moves = WindowCache(300), 0
    for place in range(2000):
        before = cache.num_rows
        cache.update_and_fetch(rows(place, 1), rows(place, 1))
        num_moves += cache.num_rows <= before
    assert num_moves <= 2000 // 256


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("smaller", [None, 1, 12])
def test_the_mask_lets_each_token_see_its_window(window: int, smaller: int | None) -> None:
    cache, at = WindowCache(window), 0
    reach = min(window, smaller or window)
    for num_new in SLICES:
        mask = cache.make_mask(num_new, window_size=smaller)
        keys, _ = cache.update_and_fetch(rows(at, num_new), rows(at, num_new))
        seen = np.array(places(keys))
        own = np.arange(at, at + num_new)[:, None]
        expected = (seen <= own) & (seen > own - reach)
        if mask is None:
            actual = np.ones_like(expected)
        elif isinstance(mask, str):
            assert mask == "causal"
            actual = seen <= own
        else:
            actual = np.broadcast_to(np.array(mask), expected.shape)
        np.testing.assert_array_equal(actual, expected)
        at += num_new


def test_the_mask_is_an_array_where_the_model_needs_one() -> None:
    assert isinstance(WindowCache(8).make_mask(4, return_array=True), mx.array)


@pytest.mark.parametrize("window", [16, 300])
@pytest.mark.parametrize("name", WINDOWED)
def test_logits_equal_those_of_the_rotating_cache(name: str, window: int) -> None:
    model = make_tiny_model(name, sliding_window=window)
    own, stock = make_layer_caches(model), make_prompt_cache(model)
    assert {type(cache) for cache in own} == {WindowCache, KVCache}
    assert {type(cache) for cache in stock} == {RotatingKVCache, KVCache}
    slices = (40, 300, 260, *[1] * 40, 70, *[1] * 20)
    actual, expected = logits_of(model, own, slices), logits_of(model, stock, slices)
    # A prompt's rows lie in the same order in both; decoded ones in another, so sums round.
    np.testing.assert_array_equal(actual[:600], expected[:600])
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    np.testing.assert_array_equal(actual.argmax(axis=-1), expected.argmax(axis=-1))


@pytest.mark.parametrize("window", [16, 300])
@pytest.mark.parametrize("name", WINDOWED)
def test_logits_do_not_depend_on_how_a_prompt_is_sliced(name: str, window: int) -> None:
    model = make_tiny_model(name, sliding_window=window)
    at_once = logits_of(model, make_layer_caches(model), (700,))
    for slices in ((256, 256, 188), (1, 15, 16, 17, 651), (300, 1, 399), (40,) * 17 + (20,)):
        sliced = logits_of(model, make_layer_caches(model), slices)
        np.testing.assert_allclose(sliced, at_once, atol=1e-5)
