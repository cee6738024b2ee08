"""Block payloads as bytes, for the disk, and back."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from engine.cache.disk.records import TensorBytes
from engine.errors import EngineFailedError
from engine.runtime.kv import Payload

_NAMES = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}
_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def to_bytes(payload: Payload) -> tuple[TensorBytes, ...]:
    """Copies a block's KV out of mlx: keys and values of each layer in turn.

    Args:
        payload: Evaluated arrays of 16 or 32-bit floats.

    Raises:
        EngineFailedError: An array has another type.
    """
    return tuple(_tensor(array) for layer in payload for array in layer)


def _tensor(array: mx.array) -> TensorBytes:
    name = _NAMES.get(array.dtype)
    if name is None:
        raise EngineFailedError(f"KV of type {array.dtype} cannot be kept on disk")
    # numpy has no bfloat16; the bits are the same under another name.
    plain = array.view(mx.uint16) if name == "BF16" else array
    return TensorBytes(name, tuple(array.shape), np.array(plain).tobytes())


def from_bytes(tensors: Sequence[TensorBytes]) -> Payload:
    """The payload that ``to_bytes`` was given.

    Args:
        tensors: Keys and values of each layer in turn.
    """
    arrays = [_array(tensor) for tensor in tensors]
    payload = tuple(zip(arrays[::2], arrays[1::2], strict=True))
    mx.eval(payload)
    return payload


def _array(tensor: TensorBytes) -> mx.array:
    host = np.frombuffer(tensor.data, dtype=_TYPES[tensor.dtype]).reshape(tensor.shape)
    array = mx.array(host)
    return array.view(mx.bfloat16) if tensor.dtype == "BF16" else array
