"""Block payloads survive the way to bytes and back, bit for bit."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from engine.cache.payload_span import PayloadSpan
from engine.errors import EngineFailedError
from engine.runtime.kv_bytes import from_bytes, to_bytes
from engine.runtime.payload_layout import ArrayLayout


def bits(array: mx.array) -> bytes:
    return np.array(array.view(mx.uint8)).tobytes()


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_every_bit_comes_back(dtype: mx.Dtype) -> None:
    mx.random.seed(5)
    payload = tuple(
        (
            mx.random.normal((1, 3, 17, 8)).astype(dtype),
            mx.random.normal((1, 3, 17, 4)).astype(dtype),
        )
        for _ in range(2)
    )
    tensors = to_bytes(payload)
    assert [tensor.shape for tensor in tensors] == [(1, 3, 17, 8), (1, 3, 17, 4)] * 2

    layout = tuple(
        tuple(
            ArrayLayout(dtype, tuple(rows.shape), 2, lambda span: span.num_tokens) for rows in part
        )
        for part in payload
    )

    restored = from_bytes(tensors, layout, PayloadSpan(0, 17))

    for layer, restored_layer in zip(payload, restored, strict=True):
        for array, restored_array in zip(layer, restored_layer, strict=True):
            assert restored_array.dtype == dtype
            assert restored_array.shape == array.shape
            assert bits(restored_array) == bits(array)


def test_bytes_do_not_follow_later_changes() -> None:
    keys = mx.ones((1, 1, 4, 2))
    tensors = to_bytes(((keys, keys),))
    before = bytes(tensors[0].data)
    keys[..., 0, :] = 7
    mx.eval(keys)
    assert bytes(tensors[0].data) == before


def test_types_without_a_name_on_disk_are_refused() -> None:
    with pytest.raises(EngineFailedError, match="bool"):
        to_bytes(((mx.zeros((1, 1, 1, 1), mx.bool_), mx.zeros((1, 1, 1, 1), mx.bool_)),))
