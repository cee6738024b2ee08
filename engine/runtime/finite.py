"""Whether numbers are finite, told from their bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

_EXPONENTS = {
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F32": (np.uint32, 0x7F800000),
    "F64": (np.uint64, 0x7FF0000000000000),
}
"""Of each type of numbers: its bits as integers, and those that all are set in no finite one."""


class Tensor(Protocol):
    """A tensor as bytes."""

    @property
    def dtype(self) -> str:
        """Type as safetensors names it."""

    @property
    def data(self) -> bytes | memoryview:
        """Its elements, little endian."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no number is infinite or not a number; what is no floating-point number is finite."""
    return not any(map(_has_exception, tensors))


def _has_exception(tensor: Tensor) -> bool:
    if tensor.dtype not in _EXPONENTS:
        return False
    kind, exponent = _EXPONENTS[tensor.dtype]
    bits = np.frombuffer(memoryview(tensor.data).cast("B"), dtype=kind)
    return bool(np.any((bits & kind(exponent)) == kind(exponent)))
