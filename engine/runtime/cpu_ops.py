"""Operations of a layer on the host's own memory, and the native kernels that do them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.runtime.blas import Kernels
from engine.runtime.cpu_packed import GROUP_WEIGHTS, PackedWeights, pack_weights
from engine.runtime.cpu_quantised import (
    AttendedPacked,
    PackedRows,
    native_quantise,
    native_rows,
)

Floats = NDArray[np.float32]

QUICK_WEIGHTS = 2_000_000
QUICK_MULTIPLICATIONS = 16_000_000
"""A product within both bounds takes a fraction of a millisecond."""

MAX_PACKED_ROWS = 8
"""With more rows, unpacking costs more than reading the weights unpacked."""
MAX_ONLY_PACKED_ROWS = 32
"""With more rows, weights that are only there packed are unpacked once before the product."""


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


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer's parameters.

    Attributes:
        num_outputs: Width of what comes out.
        num_inputs: Width of what goes in.
        weight: Shape [outputs, inputs]; None where there are only the packed ones.
        bias: Shape [outputs], or None.
        packed: The same weights in fewer bits, where they have no more content than that.
    """

    num_outputs: int
    num_inputs: int
    weight: HostArray | None
    bias: HostArray | None
    packed: PackedWeights | None = None


class HostOps(Protocol):
    """What a processor does for a layer. Outputs are written into memory the caller owns."""

    def projection(self, weight: Floats, bias: Floats | None) -> Projection:
        """Gets a linear layer's parameters ready; weight is [outputs, inputs]."""

    def packed_projection(self, packed: PackedWeights, bias: Floats | None) -> Projection | None:
        """The same for a quantised layer; None where these operations do not do it."""

    def linear(self, x: HostArray, by: Projection, out: HostArray, num_rows: int) -> None:
        """``out = x weight^T + bias`` for the first rows."""

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

    def quantise(self, rows: Floats, into: PackedRows, is_key: bool) -> bool:
        """Appends rows, [tokens, kv_heads, width], to quantised ones; keys are turned first.

        Returns:
            False where the widths are not ones it can do; then nothing is written.
        """

    def attend_quantised(self, parts: Sequence[AttendedPacked], scale: float, causal: bool) -> bool:
        """The same as ``attend`` over quantised keys and values."""


class NativeOps:
    """The native kernels."""

    def __init__(self, kernels: Kernels) -> None:
        """Declares the kernels' arguments."""
        self._long, self._quick = kernels.library, kernels.quick
        for library in (self._long, self._quick):
            _declare(library)
        self._room = host_array(np.empty(0, np.float32))

    def projection(self, weight: Floats, bias: Floats | None) -> Projection:
        """A linear layer's parameters, packed as well where that loses nothing."""
        wide = host_array(weight)
        packed = pack_weights(self._long, wide.array, wide.address)
        return Projection(weight.shape[0], weight.shape[1], wide, _bias(bias), packed)

    def packed_projection(self, packed: PackedWeights, bias: Floats | None) -> Projection:
        """A quantised layer's parameters."""
        num_outputs = packed.num_outputs
        num_inputs = packed.scales.size * GROUP_WEIGHTS // num_outputs
        return Projection(num_outputs, num_inputs, None, _bias(bias), packed)

    def linear(self, x: HostArray, by: Projection, out: HostArray, num_rows: int) -> None:
        """``out = x weight^T + bias``."""
        size = by.num_outputs * by.num_inputs
        quick = size <= QUICK_WEIGHTS and size * num_rows <= QUICK_MULTIPLICATIONS
        library = self._quick if quick else self._long
        bias = None if by.bias is None else by.bias.address
        sizes = (num_rows, by.num_outputs, by.num_inputs)
        packed, weight = by.packed, by.weight
        most = MAX_PACKED_ROWS if weight is not None else MAX_ONLY_PACKED_ROWS
        if packed is not None and num_rows <= most:
            library.stoker_linear_packed(
                x.address, *packed.addresses, bias, out.address, *sizes, packed.num_bits
            )
            return
        if weight is None:
            weight = self._unpacked(packed, size)
        library.stoker_linear(x.address, weight.address, bias, out.address, *sizes)

    def _unpacked(self, packed: PackedWeights | None, size: int) -> HostArray:
        """Unpacks into memory that the next layer takes over."""
        if packed is None:
            raise ValueError("a projection needs weights")
        if self._room.array.size < size:
            self._room = host_array(np.empty(size, np.float32))
        address = self._room.address
        self._long.stoker_unpack(*packed.addresses, address, size, packed.num_bits)
        return self._room

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
        keys, values = parts[0].keys, parts[0].values
        num_scores = sum(part.queries.shape[0] * part.keys.shape[1] for part in parts)
        refused: int = self._library(num_scores, parts[0].queries).stoker_attention(
            rows.ctypes.data,
            len(parts),
            parts[0].queries.shape[1],
            keys.shape[0],
            keys.shape[2],
            values.shape[2],
            scale,
            int(causal),
        )
        return refused == 0

    def _library(self, num_scores: int, queries: Floats) -> Any:
        """The form of the kernels for an attention of so many queries times keys."""
        quick = num_scores * queries.shape[1] * queries.shape[2] <= QUICK_MULTIPLICATIONS
        return self._quick if quick else self._long

    def quantise(self, rows: Floats, into: PackedRows, is_key: bool) -> bool:
        """Quantises rows behind those that are there."""
        return native_quantise(self._quick, rows, into, is_key)

    def attend_quantised(self, parts: Sequence[AttendedPacked], scale: float, causal: bool) -> bool:
        """Attention of all parts in one call, reading keys and values as they are kept."""
        rows = np.array([_native_packed_part(part) for part in parts], np.int64)
        packed, keys, values = native_rows(parts), parts[0].keys, parts[0].values
        num_scores = sum(part.queries.shape[0] * part.keys.num_rows for part in parts)
        refused: int = self._library(num_scores, parts[0].queries).stoker_attention_quantised(
            rows.ctypes.data,
            packed.ctypes.data,
            len(parts),
            parts[0].queries.shape[1],
            keys.num_heads,
            keys.width,
            values.width,
            scale,
            int(causal),
            keys.quantisation.group_size,
            keys.quantisation.num_bits,
        )
        return refused == 0


def _bias(bias: Floats | None) -> HostArray | None:
    return None if bias is None else host_array(bias)


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


def _native_packed_part(part: AttendedPacked) -> tuple[int, ...]:
    """The same without keys and values, which ``native_rows`` describes."""
    q, o = part.queries.strides, part.output.strides
    return (
        part.queries.ctypes.data,
        0,
        0,
        part.output.ctypes.data,
        part.queries.shape[0],
        part.keys.num_rows,
        *(q[0] // 4, q[1] // 4, 0, 0, 0, 0, o[0] // 4, o[1] // 4),
    )


_ANSWERING = {"attention", "attention_quantised", "pack", "quantise"}
"""Kernels that say whether they could."""


def _declare(library: Any) -> None:
    pointer, count, number = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
    declarations = {
        "linear": [pointer] * 4 + [count] * 3,
        "linear_packed": [pointer] * 6 + [count] * 4,
        "pack": [pointer] * 4 + [count] * 2,
        "unpack": [pointer] * 4 + [count] * 2,
        "rms_norm": [pointer] * 3 + [count] * 2 + [number],
        "swiglu": [pointer] * 3 + [count],
        "rope": [pointer] * 4 + [count] * 4 + [ctypes.c_int],
        "attention": [pointer] + [count] * 5 + [number, ctypes.c_int],
        "attention_quantised": [pointer] * 2
        + [count] * 5
        + [number, ctypes.c_int, count, ctypes.c_int],
        "quantise": [pointer] * 4 + [count] * 7 + [ctypes.c_int],
    }
    for name, arguments in declarations.items():
        function = getattr(library, f"stoker_{name}")
        function.argtypes = arguments
        function.restype = ctypes.c_int if name in _ANSWERING else None
