"""Operations of a layer on the host's own memory: native kernels, or numpy where there are none."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.runtime.blas import Kernels

Floats = NDArray[np.float32]

QUICK_WEIGHTS = 2_000_000
QUICK_MULTIPLICATIONS = 16_000_000
"""A product within both bounds takes a fraction of a millisecond."""

NUMPY_TILE_ROWS = 128
NOT_VISIBLE = np.float32(-1e30)


@dataclass(frozen=True, slots=True)
class HostArray:
    """Contiguous float32 memory and where it lies; asking numpy for the address costs a call."""

    array: Floats
    address: int


def host_array(array: Floats) -> HostArray:
    """Wraps an array; copies it only where it is not contiguous."""
    contiguous: Floats = np.ascontiguousarray(array)
    return HostArray(contiguous, contiguous.ctypes.data)


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary angles by position.

    Attributes:
        cosines: Shape [positions, half].
        sines: Shape [positions, half].
        half: Pairs that are turned in each head.
        interleaved: Whether a pair is (2 i, 2 i + 1) instead of (i, i + half).
    """

    cosines: HostArray
    sines: HostArray
    half: int
    interleaved: bool


@dataclass(frozen=True, slots=True)
class Attended:
    """One sequence's part of an attention; views with any strides but a dense last axis.

    Attributes:
        queries: Shape [queries, heads, width].
        keys: Shape [kv_heads, keys, width].
        values: Shape [kv_heads, keys, value_width].
        output: Written; shape [queries, heads, value_width].
    """

    queries: Floats
    keys: Floats
    values: Floats
    output: Floats


class HostOps(Protocol):
    """What a processor does for a layer. Outputs are written into memory the caller owns."""

    def linear(
        self, x: HostArray, weight: HostArray, bias: HostArray | None, out: HostArray, num_rows: int
    ) -> None:
        """``out = x weight^T + bias`` for the first rows; weight is [outputs, inputs]."""

    def rms_norm(
        self, x: HostArray, weight: HostArray, out: HostArray, num_rows: int, epsilon: float
    ) -> None:
        """Root mean square normalisation of rows as wide as ``weight``; ``out`` may be ``x``."""

    def swiglu(self, gate: HostArray, up: HostArray, out: HostArray, count: int) -> None:
        """``out = gate sigmoid(gate) up`` for the first elements; ``out`` may be an input."""

    def rope(
        self, x: HostArray, rotation: Rotation, positions: NDArray[np.int64], num_heads: int
    ) -> None:
        """Turns the first rows of ``x``, [rows, heads, width], by their positions, in place."""

    def attend(self, parts: Sequence[Attended], scale: float, causal: bool) -> bool:
        """Softmax attention of each part; the last query sees the last key.

        Returns:
            False where the widths are not ones it can do; then nothing is written.
        """


class NumpyOps:
    """The same with what pip installs and no compiler."""

    def linear(
        self, x: HostArray, weight: HostArray, bias: HostArray | None, out: HostArray, num_rows: int
    ) -> None:
        """``out = x weight^T + bias``."""
        y = np.matmul(x.array[:num_rows], weight.array.T, out=out.array[:num_rows])
        if bias is not None:
            y += bias.array

    def rms_norm(
        self, x: HostArray, weight: HostArray, out: HostArray, num_rows: int, epsilon: float
    ) -> None:
        """Root mean square normalisation."""
        width = weight.array.shape[0]
        rows = x.array.reshape(-1)[: num_rows * width].reshape(num_rows, width)
        mean = np.einsum("ij,ij->i", rows, rows)[:, None] / np.float32(width)
        target = out.array.reshape(-1)[: num_rows * width].reshape(num_rows, width)
        np.multiply(rows * (1 / np.sqrt(mean + np.float32(epsilon))), weight.array, out=target)

    def swiglu(self, gate: HostArray, up: HostArray, out: HostArray, count: int) -> None:
        """``out = gate sigmoid(gate) up``."""
        x = gate.array.reshape(-1)[:count]
        with np.errstate(over="ignore"):  # e^-x is infinite for very negative x: x / inf is 0
            share = x / (1 + np.exp(-x))
        np.multiply(share, up.array.reshape(-1)[:count], out=out.array.reshape(-1)[:count])

    def rope(
        self, x: HostArray, rotation: Rotation, positions: NDArray[np.int64], num_heads: int
    ) -> None:
        """Turns pairs by their positions' angles."""
        half, num_rows = rotation.half, positions.shape[0]
        rows = x.array[:num_rows].reshape(num_rows, num_heads, -1)
        pairs = rows[..., : 2 * half]
        if rotation.interleaved:
            first, second = pairs[..., 0::2], pairs[..., 1::2]
        else:
            first, second = pairs[..., :half], pairs[..., half:]
        cosine = rotation.cosines.array[positions][:, None]
        sine = rotation.sines.array[positions][:, None]
        turned = first * cosine - second * sine, first * sine + second * cosine
        first[...], second[...] = turned

    def attend(self, parts: Sequence[Attended], scale: float, causal: bool) -> bool:
        """Attention in tiles of rows, so that no more scores than needed exist at once."""
        for part in parts:
            num_queries = part.queries.shape[0]
            for start in range(0, num_queries, NUMPY_TILE_ROWS):
                _attend_tile(part, start, min(start + NUMPY_TILE_ROWS, num_queries), scale, causal)
        return True


def _attend_tile(part: Attended, start: int, stop: int, scale: float, causal: bool) -> None:
    num_queries, num_heads, _ = part.queries.shape
    num_kv_heads, num_keys, _ = part.keys.shape
    group = num_heads // num_kv_heads
    first_visible = num_keys - num_queries + start if causal else num_keys - 1
    num_visible = min(num_keys, first_visible + stop - start) if causal else num_keys
    hidden = (
        np.arange(num_visible)[None]
        > np.arange(first_visible, first_visible + stop - start)[:, None]
        if causal
        else None
    )
    for head in range(num_heads):
        keys = part.keys[head // group, :num_visible]
        scores = np.matmul(part.queries[start:stop, head] * np.float32(scale), keys.T)
        if hidden is not None:
            scores[hidden] = NOT_VISIBLE
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        total = scores.sum(axis=-1, keepdims=True)
        mixed = np.matmul(scores, part.values[head // group, :num_visible])
        np.divide(mixed, total, out=part.output[start:stop, head])


class NativeOps:
    """The native kernels."""

    def __init__(self, kernels: Kernels) -> None:
        """Declares the kernels' arguments."""
        self._long, self._quick = kernels.library, kernels.quick
        for library in (self._long, self._quick):
            _declare(library)

    def linear(
        self, x: HostArray, weight: HostArray, bias: HostArray | None, out: HostArray, num_rows: int
    ) -> None:
        """``out = x weight^T + bias``."""
        num_outputs, num_inputs = weight.array.shape
        size = num_outputs * num_inputs
        quick = size <= QUICK_WEIGHTS and size * num_rows <= QUICK_MULTIPLICATIONS
        (self._quick if quick else self._long).stoker_linear(
            x.address,
            weight.address,
            None if bias is None else bias.address,
            out.address,
            num_rows,
            num_outputs,
            num_inputs,
        )

    def rms_norm(
        self, x: HostArray, weight: HostArray, out: HostArray, num_rows: int, epsilon: float
    ) -> None:
        """Root mean square normalisation."""
        width = weight.array.shape[0]
        self._quick.stoker_rms_norm(
            x.address, weight.address, out.address, num_rows, width, epsilon
        )

    def swiglu(self, gate: HostArray, up: HostArray, out: HostArray, count: int) -> None:
        """``out = gate sigmoid(gate) up``."""
        self._quick.stoker_swiglu(gate.address, up.address, out.address, count)

    def rope(
        self, x: HostArray, rotation: Rotation, positions: NDArray[np.int64], num_heads: int
    ) -> None:
        """Turns pairs by their positions' angles."""
        self._quick.stoker_rope(
            x.address,
            rotation.cosines.address,
            rotation.sines.address,
            positions.ctypes.data,
            positions.shape[0],
            num_heads,
            x.array.shape[-1] // num_heads,
            rotation.half,
            int(rotation.interleaved),
        )

    def attend(self, parts: Sequence[Attended], scale: float, causal: bool) -> bool:
        """Attention of all parts in one call."""
        rows = np.array([_native_part(part) for part in parts], np.int64)
        queries, keys, values = parts[0].queries, parts[0].keys, parts[0].values
        num_scores = sum(part.queries.shape[0] * part.keys.shape[1] for part in parts)
        quick = num_scores * queries.shape[1] * queries.shape[2] <= QUICK_MULTIPLICATIONS
        refused: int = (self._quick if quick else self._long).stoker_attention(
            rows.ctypes.data,
            len(parts),
            queries.shape[1],
            keys.shape[0],
            queries.shape[2],
            values.shape[2],
            scale,
            int(causal),
        )
        return refused == 0


def _native_part(part: Attended) -> tuple[int, ...]:
    """A ``sequence`` of attention.c: addresses, counts, strides in floats."""
    arrays = (part.queries, part.keys, part.values, part.output)
    q, k, v, o = (array.strides for array in arrays)
    strides = (q[0], q[1], k[1], k[0], v[1], v[0], o[0], o[1])
    return (
        *(array.ctypes.data for array in arrays),
        part.queries.shape[0],
        part.keys.shape[1],
        *(stride // 4 for stride in strides),
    )


def _declare(library: Any) -> None:
    pointer, count, number = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
    declarations = {
        "linear": [pointer] * 4 + [count] * 3,
        "rms_norm": [pointer] * 3 + [count] * 2 + [number],
        "swiglu": [pointer] * 3 + [count],
        "rope": [pointer] * 4 + [count] * 4 + [ctypes.c_int],
        "attention": [pointer] + [count] * 5 + [number, ctypes.c_int],
    }
    for name, arguments in declarations.items():
        function = getattr(library, f"stoker_{name}")
        function.argtypes = arguments
        function.restype = ctypes.c_int if name == "attention" else None
