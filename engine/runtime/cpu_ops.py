"""Operations of a layer on the host's own memory: native kernels, or numpy where there are none.

Both take and give float32 numpy arrays; inputs are views of mlx arrays, never copies.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.runtime.blas import Kernels

Floats = NDArray[np.float32]

QUICK_MULTIPLICATIONS = 4_000_000
"""A product smaller than this takes well under a millisecond."""

_POINTER = ctypes.c_void_p
_LONG = ctypes.c_long


class HostOps(Protocol):
    """What a processor does for a layer."""

    def linear(self, x: Floats, weight: Floats, bias: Floats | None) -> Floats:
        """``x weight^T + bias`` for x [rows, inputs], weight [outputs, inputs]."""


class NumpyOps:
    """The same everywhere, with what pip installs and no compiler."""

    def linear(self, x: Floats, weight: Floats, bias: Floats | None) -> Floats:
        """``x weight^T + bias`` for x [rows, inputs], weight [outputs, inputs]."""
        product: Floats = np.matmul(x, weight.T)
        return product if bias is None else product + bias


class NativeOps:
    """The native kernels."""

    def __init__(self, kernels: Kernels) -> None:
        """Declares the kernels' arguments."""
        self._long, self._quick = kernels.library, kernels.quick
        for library in (self._long, self._quick):
            library.stoker_linear.argtypes = [_POINTER] * 4 + [_LONG] * 3
            library.stoker_linear.restype = None

    def linear(self, x: Floats, weight: Floats, bias: Floats | None) -> Floats:
        """``x weight^T + bias`` for x [rows, inputs], weight [outputs, inputs]."""
        num_rows, num_inputs = x.shape
        num_outputs = weight.shape[0]
        y: Floats = np.empty((num_rows, num_outputs), np.float32)
        is_quick = num_rows * num_inputs * num_outputs < QUICK_MULTIPLICATIONS
        call = self._quick.stoker_linear if is_quick else self._long.stoker_linear
        call(
            x.ctypes.data,
            weight.ctypes.data,
            None if bias is None else bias.ctypes.data,
            y.ctypes.data,
            num_rows,
            num_outputs,
            num_inputs,
        )
        return y
