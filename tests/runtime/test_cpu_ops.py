"""The processor's operations against the same sums in float64."""

from __future__ import annotations

import dataclasses

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from numpy.typing import NDArray

from engine.runtime.cpu_numpy import NumpyOps
from engine.runtime.cpu_ops import Attended, Floats, HostOps, NativeOps, host_array
from engine.runtime.cpu_rope import RotaryAngles
from tests.runtime.tiny_models import kernels_or_none

Doubles = NDArray[np.float64]


@pytest.fixture(params=["native", "numpy"])
def ops(request: pytest.FixtureRequest) -> HostOps:
    if request.param == "numpy":
        return NumpyOps()
    kernels = kernels_or_none()
    if kernels is None:
        pytest.skip("no C compiler here")
    return NativeOps(kernels)


def random(*shape: int) -> Floats:
    generator = np.random.default_rng(sum(shape))
    return generator.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 7, 33, 96, 97, 130])
@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(3, 5), (70, 33), (128, 64), (1, 16)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear(
    ops: HostOps, num_rows: int, num_outputs: int, num_inputs: int, has_bias: bool
) -> None:
    x, weight = random(num_rows, num_inputs), random(num_outputs, num_inputs)
    bias = random(num_outputs) if has_bias else None
    out = host_array(np.full((num_rows, num_outputs), np.nan, np.float32))

    ops.linear(host_array(x), ops.projection(weight, bias), out, num_rows)

    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + (0 if bias is None else bias)
    np.testing.assert_allclose(out.array, expected, atol=3e-5)


def test_a_row_has_the_same_bits_in_a_batch_of_any_size() -> None:
    kernels = kernels_or_none()
    if kernels is None:
        pytest.skip("no C compiler here")
    ops = NativeOps(kernels)
    x, weight = random(16, 100), ops.projection(random(64, 100), None)

    def product(num_rows: int) -> Floats:
        out = host_array(np.empty((num_rows, 64), np.float32))
        ops.linear(host_array(x[:num_rows]), weight, out, num_rows)
        return out.array

    alone = product(1)
    for num_rows in range(2, 17):
        np.testing.assert_array_equal(product(num_rows)[:1], alone)


def quantized(num_bits: int, num_outputs: int, num_inputs: int) -> Floats:
    """Weights with no more content than so many bits, scales of 16 bits, as formats unpack them."""
    generator = np.random.default_rng(num_bits)
    shape = (num_outputs, num_inputs // 32, 32)
    scale = generator.uniform(0.001, 0.1, (*shape[:2], 1)).astype(np.float16).astype(np.float32)
    if num_bits == 4:
        level = generator.integers(0, 16, shape).astype(np.float32)
        level[..., 3], level[..., 20] = 0, 15
        offset = generator.normal(size=(*shape[:2], 1)).astype(np.float16).astype(np.float32)
    else:
        level = generator.integers(-127, 128, shape).astype(np.float32)
        level[..., 9] = -127
        offset = np.zeros_like(scale)
    level[0, 0] = 0  # a group that is all alike
    return (scale * level + offset).reshape(num_outputs, num_inputs).astype(np.float32)


@pytest.mark.parametrize("num_bits", [4, 8])
@pytest.mark.parametrize("num_outputs", [1, 6, 130])
def test_weights_of_few_bits_give_the_same_bits_out(num_bits: int, num_outputs: int) -> None:
    kernels = kernels_or_none()
    if kernels is None:
        pytest.skip("no C compiler here")
    ops = NativeOps(kernels)
    packed = ops.projection(quantized(num_bits, num_outputs, 96), random(num_outputs))
    assert packed.packed is not None
    assert packed.packed.num_bits == num_bits
    wide = dataclasses.replace(packed, packed=None)
    only_packed = dataclasses.replace(packed, weight=None)

    for num_rows in (*range(1, 10), 32, 33, 50):
        x = host_array(random(num_rows, 96))
        outs = []
        for form in (packed, wide, only_packed):
            out = host_array(np.full((num_rows, num_outputs), np.nan, np.float32))
            ops.linear(x, form, out, num_rows)
            outs.append(out.array)
        np.testing.assert_array_equal(outs[0], outs[1])
        np.testing.assert_array_equal(outs[0], outs[2])


@pytest.mark.parametrize("num_bits", [4, 8])
def test_weights_are_not_packed_where_one_would_not_come_back(num_bits: int) -> None:
    kernels = kernels_or_none()
    if kernels is None:
        pytest.skip("no C compiler here")
    ops = NativeOps(kernels)
    weight = quantized(num_bits, 70, 96)
    weight[69, 95] = np.nextafter(weight[69, 95], np.float32(9), dtype=np.float32)
    odd = quantized(num_bits, 70, 96)[:, :50].copy()
    broken = quantized(num_bits, 70, 96)
    broken[5, 5] = np.nan

    for each in (weight, odd, broken):
        assert ops.projection(each, None).packed is None


def test_linear_keeps_a_value_that_is_not_a_number(ops: HostOps) -> None:
    x = random(2, 32)
    x[1, 5] = np.nan
    out = host_array(np.zeros((2, 8), np.float32))

    ops.linear(host_array(x), ops.projection(random(8, 32), None), out, 2)

    assert np.isfinite(out.array[0]).all()
    assert np.isnan(out.array[1]).all()


@pytest.mark.parametrize("width", [5, 16, 64, 576])
def test_rms_norm(ops: HostOps, width: int) -> None:
    x, weight = random(9, width), random(width)
    out = host_array(np.empty_like(x))

    ops.rms_norm(host_array(x), host_array(weight), out, 9, 1e-5)

    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(out.array, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("count", [1, 15, 17, 40_000])
def test_swiglu(ops: HostOps, count: int) -> None:
    gate, up = random(count) * 20, random(count)
    gate[0] = -200.0
    out = host_array(np.empty_like(gate))

    ops.swiglu(host_array(gate), host_array(up), out, count)

    wide = gate.astype(np.float64)
    np.testing.assert_allclose(out.array, wide / (1 + np.exp(-wide)) * up, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize("dims", [16, 32])
def test_rope_turns_as_the_model_s_own_module(ops: HostOps, traditional: bool, dims: int) -> None:
    rope = nn.RoPE(dims, traditional=traditional, base=10_000.0)
    positions = np.array([0, 1, 5, 900, 3000], np.int64)
    x = random(5, 3 * 32)
    turned = host_array(x.copy())

    ops.rope(turned, RotaryAngles(rope, 32).up_to(3001), positions, 3)

    for row, position in enumerate(positions):
        one = mx.array(x[row].reshape(1, 3, 1, 32))
        expected = np.array(rope(one, offset=int(position))).reshape(-1)
        np.testing.assert_allclose(turned.array[row], expected, atol=1e-6)


def attend_in_float64(part: Attended, scale: float, causal: bool) -> Doubles:
    num_queries, num_heads, _ = part.queries.shape
    num_kv_heads, num_keys, _ = part.keys.shape
    group = num_heads // num_kv_heads
    keys = np.repeat(part.keys, group, axis=0).astype(np.float64)
    values = np.repeat(part.values, group, axis=0).astype(np.float64)
    scores = np.einsum("qhd,hkd->hqk", part.queries.astype(np.float64), keys) * scale
    if causal:
        last = np.arange(num_keys - num_queries, num_keys)
        scores = np.where(np.arange(num_keys) <= last[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed: Doubles = np.einsum("hqk,hkd->qhd", weights, values)
    return mixed


def part_of(num_queries: int, num_keys: int, heads: tuple[int, int], width: int) -> Attended:
    num_heads, num_kv_heads = heads
    queries = random(num_queries, num_heads, width) * 3
    room = random(num_kv_heads, num_keys + 13, width)
    keys, values = room[:, :num_keys], room[::-1, :num_keys]
    return Attended(queries, keys, values, np.full_like(queries, np.nan))


@pytest.mark.parametrize(
    ("num_queries", "num_keys"),
    [(1, 1), (1, 200), (5, 5), (3, 64), (64, 300), (130, 257), (1, 2500), (3, 1025), (2, 2048)],
)
@pytest.mark.parametrize("heads", [(9, 3), (4, 4), (8, 1), (40, 1)])
@pytest.mark.parametrize("causal", [True, False])
def test_attention(
    ops: HostOps, num_queries: int, num_keys: int, heads: tuple[int, int], causal: bool
) -> None:
    part = part_of(num_queries, num_keys, heads, 64)

    assert ops.attend([part], 0.125, causal)

    np.testing.assert_allclose(part.output, attend_in_float64(part, 0.125, causal), atol=2e-5)


NUM_KEYS = (3, 1300, 64, 3000, 1, 2048)


def test_attention_of_several_sequences_is_each_one_s_own(ops: HostOps) -> None:
    together = [part_of(1, num_keys, (9, 3), 64) for num_keys in NUM_KEYS]
    alone = [part_of(1, num_keys, (9, 3), 64) for num_keys in NUM_KEYS]

    ops.attend(together, 0.125, False)
    for part in alone:
        ops.attend([part], 0.125, False)

    for both in zip(together, alone, strict=True):
        np.testing.assert_array_equal(both[0].output, both[1].output)


@pytest.mark.parametrize("slices", [(300,), (2, 298), (37, 100, 3, 160), (21, 22, 257)])
def test_a_prompt_s_rows_have_the_same_bits_however_it_is_sliced(slices: tuple[int, ...]) -> None:
    kernels = kernels_or_none()
    if kernels is None:
        pytest.skip("no C compiler here")
    ops = NativeOps(kernels)
    whole = part_of(300, 1500, (9, 3), 64)
    ops.attend([whole], 0.125, True)

    start = 0
    for length in slices:
        stop = start + length
        num_keys = 1500 - 300 + stop
        part = Attended(
            whole.queries[start:stop],
            whole.keys[:, :num_keys],
            whole.values[:, :num_keys],
            np.full((length, 9, 64), np.nan, np.float32),
        )
        ops.attend([part], 0.125, True)
        np.testing.assert_array_equal(part.output, whole.output[start:stop])
        start = stop


def test_attention_survives_scores_that_overflow_an_exponential(ops: HostOps) -> None:
    part = part_of(40, 90, (4, 2), 64)
    part.queries[:] *= 1000

    ops.attend([part], 1.0, True)

    np.testing.assert_allclose(part.output, attend_in_float64(part, 1.0, True), atol=1e-3)
