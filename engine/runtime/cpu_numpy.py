"""The processor's operations in numpy, for machines where the native kernels cannot be built."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.runtime.cpu_ops import Attended, Floats, HostArray, Projection, Rotation, host_array
from engine.runtime.cpu_packed import PackedWeights
from engine.runtime.cpu_quantised import (
    AttendedPacked,
    PackedRows,
    dequantised,
    numpy_quantise,
    turn_factors,
    turned,
)

NUMPY_TILE_ROWS = 128
NUMPY_VECTOR_ROWS = 8
"""So many matrix-vector products cost less than a matrix product, which packs the weights first."""

NOT_VISIBLE = np.float32(-1e30)


class NumpyOps:
    """The same with what pip installs and no compiler."""

    def projection(self, weight: Floats, bias: Floats | None) -> Projection:
        """A linear layer's parameters, as they are."""
        host_bias = None if bias is None else host_array(bias)
        return Projection(weight.shape[0], weight.shape[1], host_array(weight), host_bias)

    def packed_projection(self, packed: PackedWeights, bias: Floats | None) -> None:
        """Not done: mlx's own quantised product is as fast as unpacking in numpy."""

    def linear(self, x: HostArray, by: Projection, out: HostArray, num_rows: int) -> None:
        """``out = x weight^T + bias``."""
        weight, bias = by.weight, by.bias
        if weight is None:
            raise ValueError("numpy needs unpacked weights")
        y = out.array[:num_rows]
        if num_rows <= NUMPY_VECTOR_ROWS:
            for row in range(num_rows):
                np.dot(weight.array, x.array[row], out=y[row])
        else:
            np.matmul(x.array[:num_rows], weight.array.T, out=y)
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

    def quantise(self, rows: Floats, into: PackedRows, is_key: bool) -> bool:
        """Quantises rows behind those that are there."""
        numpy_quantise(rows, into, is_key)
        return True

    def attend_quantised(self, parts: Sequence[AttendedPacked], scale: float, causal: bool) -> bool:
        """Attention over one sequence's keys and values as plain numbers, one after another."""
        for part in parts:
            queries = turned(part.queries, turn_factors(part.keys.width)[1])
            keys, values = dequantised(part.keys), dequantised(part.values)
            self.attend([Attended(queries, keys, values, part.output)], scale, causal)
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
