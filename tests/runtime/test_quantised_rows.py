"""Rows in 4 and 8 bits: what they lose, and that every way of working with them agrees."""

from __future__ import annotations

import numpy as np
import pytest

from engine.cache.quantisation import KVQuantisation
from engine.runtime.cpu_numpy import NumpyOps
from engine.runtime.cpu_ops import Attended, Floats, HostOps, NativeOps
from engine.runtime.cpu_quantised import (
    AttendedPacked,
    PackedRows,
    dequantised,
    turn_factors,
    turned,
)
from tests.runtime.test_cpu_ops import attend_in_float64
from tests.runtime.tiny_models import kernels_or_none

FORMATS = [KVQuantisation(bits, size) for bits in (4, 8) for size in (32, 64)]
WIDTHS = (64, 96, 128, 192, 256)
FITTING = [(each, width) for each in FORMATS for width in WIDTHS if width % each.group_size == 0]


def name(quantisation: KVQuantisation) -> str:
    return quantisation.key


def native_ops() -> NativeOps:
    kernels = kernels_or_none()
    if kernels is None:
        pytest.skip("no C compiler here")
    return NativeOps(kernels)


@pytest.fixture(params=["native", "numpy"])
def ops(request: pytest.FixtureRequest) -> HostOps:
    return NumpyOps() if request.param == "numpy" else native_ops()


def random(*shape: int) -> Floats:
    generator = np.random.default_rng(sum(shape))
    return generator.standard_normal(shape).astype(np.float32) * 3


def room(quantisation: KVQuantisation, num_heads: int, capacity: int, width: int) -> PackedRows:
    groups = (num_heads, capacity, width // quantisation.group_size)
    return PackedRows(
        np.zeros((num_heads, capacity, width * quantisation.num_bits // 32), np.uint32),
        np.zeros(groups, np.float16),
        np.zeros(groups, np.float16),
        quantisation,
        0,
    )


def kept(ops: HostOps, quantisation: KVQuantisation, rows: Floats, is_key: bool) -> PackedRows:
    packed = room(quantisation, rows.shape[1], rows.shape[0] + 5, rows.shape[2])
    assert ops.quantise(rows, packed, is_key)
    return packed


@pytest.mark.parametrize("quantisation", FORMATS, ids=name)
def test_no_number_is_off_by_more_than_half_a_level(
    ops: HostOps, quantisation: KVQuantisation
) -> None:
    rows = random(70, 3, 64)

    packed = kept(ops, quantisation, rows, False)

    groups = rows.reshape(70, 3, -1, quantisation.group_size)
    step = (groups.max(-1) - groups.min(-1)) / (2**quantisation.num_bits - 1)
    # Scale and offset are rounded to 11 bits; that may take another part of a level at the ends.
    rounding = np.abs(groups).max(-1) * 2.0**-11 + step * 2**quantisation.num_bits * 2.0**-11
    bound = np.repeat((step / 2 + rounding)[..., None], quantisation.group_size, -1)
    error = np.abs(dequantised(packed).transpose(1, 0, 2) - rows)
    assert (error.reshape(groups.shape) <= bound).all()
    assert error.max() > 0  # it is lossy, or the bound above says nothing


@pytest.mark.parametrize("quantisation", FORMATS, ids=name)
@pytest.mark.parametrize("is_key", [True, False])
@pytest.mark.parametrize("width", [64, 128, 192])
def test_native_and_numpy_keep_the_same_bits(
    quantisation: KVQuantisation, is_key: bool, width: int
) -> None:
    rows = random(33, 2, width)
    rows[3] *= 1e-6
    rows[4] = 0.25
    rows[5, 0, :7] = 3e5
    rows[6, 1, 9] = np.nan
    rows[7, 0, 1] = np.inf

    native, numpy = (kept(each, quantisation, rows, is_key) for each in (native_ops(), NumpyOps()))

    np.testing.assert_array_equal(native.levels, numpy.levels)
    np.testing.assert_array_equal(native.scales, numpy.scales)
    np.testing.assert_array_equal(native.offsets, numpy.offsets)


@pytest.mark.parametrize("quantisation", FORMATS, ids=name)
@pytest.mark.parametrize("slices", [(40,), (1,) * 40, (17, 22, 1)])
def test_a_row_is_the_same_whatever_it_is_appended_with(
    ops: HostOps, quantisation: KVQuantisation, slices: tuple[int, ...]
) -> None:
    rows = random(40, 3, 64)
    whole = kept(ops, quantisation, rows, True)
    packed, start = room(quantisation, 3, 45, 64), 0

    for length in slices:
        ops.quantise(rows[start : start + length], packed, True)
        start += length

    assert packed.num_rows == 40
    np.testing.assert_array_equal(packed.levels, whole.levels)
    np.testing.assert_array_equal(packed.scales, whole.scales)


def test_what_is_not_a_number_does_not_become_one(ops: HostOps) -> None:
    rows = random(2, 1, 64)
    rows[0, 0, 40] = np.nan

    numbers = dequantised(kept(ops, KVQuantisation(4, 64), rows, True))

    assert np.isnan(numbers[0, 0]).any()
    assert np.isfinite(numbers[0, 1]).all()


@pytest.mark.parametrize("width", WIDTHS)
def test_turning_keys_and_queries_leaves_their_products(width: int) -> None:
    keys, queries = random(9, width), random(7, width)
    key_factor, query_factor = turn_factors(width)

    products = turned(queries, query_factor) @ turned(keys, key_factor).T

    np.testing.assert_allclose(products, queries @ keys.T, atol=2e-3)


def attended(
    ops: HostOps, quantisation: KVQuantisation, queries: Floats, num_keys: int, width: int
) -> tuple[AttendedPacked, Attended]:
    """An attention over quantised rows, and over what these stand for."""
    keys = kept(ops, quantisation, random(num_keys, 3, width), True)
    values = kept(ops, quantisation, random(num_keys, 3, width)[::-1].copy(), False)
    output = np.full((queries.shape[0], queries.shape[1], width), np.nan, np.float32)
    plain = Attended(
        turned(queries, turn_factors(width)[1]), dequantised(keys), dequantised(values), output
    )
    return AttendedPacked(queries, keys, values, output.copy()), plain


@pytest.mark.parametrize(("quantisation", "width"), FITTING)
@pytest.mark.parametrize(
    ("num_queries", "num_keys"), [(1, 1), (1, 200), (1, 2500), (5, 5), (33, 70), (130, 257)]
)
def test_attention_sees_what_is_kept(
    ops: HostOps, quantisation: KVQuantisation, num_queries: int, num_keys: int, width: int
) -> None:
    queries = random(num_queries, 9, width) / np.float32(3)
    part, plain = attended(ops, quantisation, queries, num_keys, width)

    assert ops.attend_quantised([part], width**-0.5, num_queries > 1)

    expected = attend_in_float64(plain, width**-0.5, num_queries > 1)
    np.testing.assert_allclose(part.output, expected, atol=1e-4)


def test_attention_of_several_sequences_is_each_one_s_own(ops: HostOps) -> None:
    quantisation = KVQuantisation(4, 64)
    lengths = (3, 1300, 64, 3000, 1, 2048)
    parts = [attended(ops, quantisation, random(1, 9, 64), n, 64)[0] for n in lengths]
    alone = [attended(ops, quantisation, random(1, 9, 64), n, 64)[0] for n in lengths]

    ops.attend_quantised(parts, 0.125, False)
    for part in alone:
        ops.attend_quantised([part], 0.125, False)

    for both in zip(parts, alone, strict=True):
        np.testing.assert_array_equal(both[0].output, both[1].output)


def test_widths_that_the_kernels_do_not_do_are_refused() -> None:
    packed = room(KVQuantisation(4, 64), 1, 4, 512)
    assert not native_ops().quantise(random(2, 1, 512), packed, True)
    assert packed.num_rows == 0
