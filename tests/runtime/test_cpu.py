"""A model with the CPU profile's fast paths answers as the stock model does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache, make_prompt_cache
from mlx_lm.utils import load_model

from engine.runtime import cpu, ragged
from engine.runtime.cpu_block import append
from engine.runtime.cpu_ops import Floats
from engine.runtime.device import DeviceProfile
from tests.runtime.tiny_models import ARCHITECTURES, kernels_or_none, make_tiny_model

SLICES = (17, 16, 1, 6)
NUM_DECODED = 4
COMMON_SHAPE = ("llama", "qwen3")


@pytest.fixture(autouse=True)
def stock_again() -> Iterator[None]:
    yield
    cpu.uninstall()


@pytest.fixture(params=["native", "numpy"])
def profile(request: pytest.FixtureRequest) -> DeviceProfile:
    if request.param == "numpy":
        return DeviceProfile()
    kernels = kernels_or_none()
    if kernels is None:
        pytest.skip("no C compiler here")
    return DeviceProfile(kernels=kernels)


def logits_of(model: Any) -> Floats:
    """Logits of a prompt in slices, then of a few tokens one by one."""
    tokens = np.random.default_rng(3).integers(0, 100, sum(SLICES) + NUM_DECODED)
    caches = make_prompt_cache(model)
    rows, at = [], 0
    for length in (*SLICES, *[1] * NUM_DECODED):
        output = model(mx.array(tokens[None, at : at + length]), cache=caches)
        rows.append(np.array(output[0]))
        at += length
    return np.concatenate(rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_equal_the_stock_model_s(architecture: str, profile: DeviceProfile) -> None:
    model = make_tiny_model(architecture)
    stock = logits_of(model)

    cpu.install(model, profile)

    np.testing.assert_allclose(logits_of(model), stock, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_on_is_said(architecture: str, profile: DeviceProfile) -> None:
    fast_paths, fallbacks = cpu.install(make_tiny_model(architecture), profile)

    assert any("run whole on host memory" in text for text in fast_paths) is (
        architecture in COMMON_SHAPE
    )
    assert bool(fallbacks) is (architecture not in COMMON_SHAPE)


@pytest.mark.parametrize(("num_bits", "group_size"), [(4, 32), (4, 64), (8, 32), (8, 64)])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "deepseek_v2", "qwen3_next"])
def test_quantized_models_answer_as_stock_ones(
    architecture: str, num_bits: int, group_size: int, profile: DeviceProfile
) -> None:
    model = make_tiny_model(architecture)
    nn.quantize(
        model,
        group_size,
        num_bits,
        class_predicate=lambda _, layer: (
            hasattr(layer, "to_quantized") and layer.weight.shape[-1] % group_size == 0
        ),
    )
    mx.eval(model.parameters())
    stock = logits_of(model)

    fast_paths, _ = cpu.install(model, profile)

    np.testing.assert_allclose(logits_of(model), stock, atol=1e-4)
    runs_whole = any("run whole on host memory" in text for text in fast_paths)
    assert runs_whole is (architecture in COMMON_SHAPE and profile.kernels is not None)


def test_uninstall_puts_the_stock_layers_back(profile: DeviceProfile) -> None:
    model = make_tiny_model("llama")
    attention, call = mx.fast.scaled_dot_product_attention, type(model.layers[0]).__call__
    stock = logits_of(model)

    cpu.install(model, profile)
    assert mx.fast.scaled_dot_product_attention is not attention
    cpu.uninstall()

    assert mx.fast.scaled_dot_product_attention is attention
    assert type(model.layers[0]).__call__ is call
    np.testing.assert_array_equal(logits_of(model), stock)


def test_a_block_that_computes_something_else_is_left_alone(profile: DeviceProfile) -> None:
    model = make_tiny_model("llama")
    odd = type("OddBlock", (type(model.layers[0]),), {"__call__": _doubled})
    model.layers[1].__class__ = odd
    stock = logits_of(model)

    fast_paths, _ = cpu.install(model, profile)

    assert any(text.startswith("1 of 2 layers") for text in fast_paths)
    np.testing.assert_allclose(logits_of(model), stock, atol=1e-4)


def _doubled(self: Any, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
    output: mx.array = super(type(self), self).__call__(x, mask, cache)
    return 2 * output


def test_16_bit_weights_go_the_stock_way(profile: DeviceProfile) -> None:
    model = make_tiny_model("llama")
    model.apply(lambda array: array.astype(mx.bfloat16))
    tokens = mx.array([[3, 1, 4, 1, 5]])
    stock = model(tokens, cache=make_prompt_cache(model))

    cpu.install(model, profile)

    output = model(tokens, cache=make_prompt_cache(model))
    assert output.dtype == stock.dtype
    assert mx.array_equal(output, stock)


def test_appending_leaves_a_slice_that_was_taken_before_as_it_was() -> None:
    cache = KVCache()
    rows = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    append(cache, rows, rows)
    held = cache.keys[..., : cache.offset, :]
    before = np.array(held)

    keys, values = append(cache, -rows, -2 * rows)

    np.testing.assert_array_equal(np.array(held), before)
    np.testing.assert_array_equal(keys[:, 2:], -rows.transpose(1, 0, 2))
    np.testing.assert_array_equal(values[:, 2:], -2 * rows.transpose(1, 0, 2))
    assert cache.offset == 4


def test_a_cache_grows_past_its_first_room() -> None:
    cache = KVCache()
    rows = np.random.default_rng(0).standard_normal((600, 3, 4)).astype(np.float32)

    for start in range(0, 600, 50):
        keys, values = append(cache, rows[start : start + 50], rows[start : start + 50])

    np.testing.assert_array_equal(keys, rows.transpose(1, 0, 2))
    np.testing.assert_array_equal(values, rows.transpose(1, 0, 2))


def greedy(model: Any, caches: list[list[Any]], num_tokens: int) -> list[list[int]]:
    """Greedy tokens of a ragged batch; each sequence starts with token 5."""
    tokens = mx.array([[5]] * len(caches))
    steps = []
    for _ in range(num_tokens):
        tokens = mx.argmax(model(tokens, cache=ragged.ragged_layers(caches))[:, -1], axis=-1)
        steps.append(np.array(tokens).tolist())
        tokens = tokens[:, None]
    return [list(row) for row in zip(*steps, strict=True)]


def prefilled(model: Any, prompts: list[list[int]]) -> list[list[Any]]:
    """A cache for each prompt, filled."""
    caches = [make_prompt_cache(model) for _ in prompts]
    for prompt, cache in zip(prompts, caches, strict=True):
        mx.eval(model.model(mx.array([prompt]), cache=cache))
    return caches


def prompts_of(lengths: tuple[int, ...], vocabulary: int) -> list[list[int]]:
    generator = np.random.default_rng(11)
    return [generator.integers(0, vocabulary, length).tolist() for length in lengths]


def test_logits_of_a_ragged_batch_equal_each_sequence_s_own(profile: DeviceProfile) -> None:
    model = make_tiny_model("llama")
    cpu.install(model, profile)
    ragged.install()
    prompts = prompts_of((5, 23, 40), 100)
    tokens = mx.array([[1], [2], [3]])

    together = model(tokens, cache=ragged.ragged_layers(prefilled(model, prompts)))
    alone = [
        model(tokens[i : i + 1], cache=cache) for i, cache in enumerate(prefilled(model, prompts))
    ]

    bound = 0 if profile.kernels else 1e-5
    np.testing.assert_allclose(np.array(together), np.array(mx.concatenate(alone)), atol=bound)


def test_the_bundled_model_decodes_to_the_same_tokens_alone_and_among_seven_others(
    bundled_model_dir: Path,
) -> None:
    model, _ = load_model(bundled_model_dir)
    cpu.install(model, DeviceProfile(kernels=kernels_or_none()))
    ragged.install()
    prompts = prompts_of((3, 40, 150, 17, 64, 5, 33, 100), 49_000)

    together = greedy(model, prefilled(model, prompts), 6)
    alone = [greedy(model, [cache], 6)[0] for cache in prefilled(model, prompts)]

    assert together == alone
