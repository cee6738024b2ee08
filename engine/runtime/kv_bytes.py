"""Block payloads as bytes, for the disk, and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import mlx.core as mx
import numpy as np

from engine.cache.disk.records import TensorBytes
from engine.cache.payload_span import PayloadSpan
from engine.errors import EngineFailedError, PayloadError
from engine.runtime.kv import Payload
from engine.runtime.payload_layout import PayloadLayout

_NAMES = {
    mx.float32: "F32",
    mx.float16: "F16",
    mx.bfloat16: "BF16",
    mx.int32: "I32",
    mx.uint32: "U32",
    mx.int64: "I64",
}
_TYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I32": np.int32,
    "U32": np.uint32,
    "I64": np.int64,
}


def to_bytes(payload: Payload) -> tuple[TensorBytes, ...]:
    """Copies a block's KV out of mlx: the arrays of each layer in turn.

    Args:
        payload: Evaluated arrays.

    Raises:
        EngineFailedError: An array has another type.
    """
    return tuple(_tensor(array) for part in payload for array in part)


def _tensor(array: mx.array) -> TensorBytes:
    name = _NAMES.get(array.dtype)
    if name is None:
        raise EngineFailedError(f"KV of type {array.dtype} cannot be kept on disk")
    # numpy has no bfloat16; the bits are the same under another name.
    plain = array.view(mx.uint16) if name == "BF16" else array
    return TensorBytes(name, tuple(array.shape), np.array(plain).tobytes())


def from_bytes(tensors: Sequence[TensorBytes], layout: PayloadLayout, span: PayloadSpan) -> Payload:
    """The payload that ``to_bytes`` was given.

    Args:
        tensors: The arrays of each layer in turn.
        layout: What the model keeps.
        span: Which tokens the payload is of.

    Raises:
        PayloadError: They are not a payload of that place in this model.
    """
    _check(tensors, layout, span)
    arrays = map(_array, tensors)
    payload = tuple(tuple(islice(arrays, len(part))) for part in layout)
    mx.eval(payload)
    return payload


def _check(tensors: Sequence[TensorBytes], layout: PayloadLayout, span: PayloadSpan) -> None:
    """Nothing is made of tensors that are not a payload of that place in this model."""
    arrays = [array for part in layout for array in part]
    if len(tensors) != len(arrays):
        raise PayloadError(f"it has {len(tensors)} tensors, and this model keeps {len(arrays)}")
    for index, (tensor, array) in enumerate(zip(tensors, arrays, strict=True)):
        expected = (_NAMES.get(array.dtype), array.shape_of(span))
        if (tensor.dtype, tensor.shape) != expected:
            raise PayloadError(
                f"its tensor {index} is {_words(tensor.dtype, tensor.shape)}, and this model "
                f"keeps {_words(*expected)} there"
            )


def _words(dtype: str | None, shape: Sequence[int]) -> str:
    return f"{dtype} {'x'.join(map(str, shape))}"


def _array(tensor: TensorBytes) -> mx.array:
    host = np.frombuffer(tensor.data, dtype=_TYPES[tensor.dtype]).reshape(tensor.shape)
    array = mx.array(host)
    return array.view(mx.bfloat16) if tensor.dtype == "BF16" else array
