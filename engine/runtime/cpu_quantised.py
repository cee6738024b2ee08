"""Quantised rows of keys and values on the host's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.cache.quantisation import KVQuantisation

Floats = NDArray[np.float32]

_LARGEST_HALF = np.float32(65504.0)
_HALF_BYTES = 2
_WORD_BYTES = 4
# Both levels of a byte, the lower four bits first.
_LEVELS_OF_BYTE = np.array([(byte & 15, byte >> 4) for byte in range(256)], np.float32)


@dataclass(slots=True)
class PackedRows:
    """Keys or values of one layer, in buffers with room to grow.

    Attributes:
        levels: Shape [kv_heads, capacity, width * bits / 32].
        scales: Shape [kv_heads, capacity, width / group].
        offsets: Shape [kv_heads, capacity, width / group].
        quantisation: What they mean.
        num_rows: Rows that are written.
        addresses: Where levels, scales and offsets lie; asking numpy costs a call.
    """

    levels: NDArray[np.uint32]
    scales: NDArray[np.float16]
    offsets: NDArray[np.float16]
    quantisation: KVQuantisation
    num_rows: int
    addresses: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.addresses = (
            self.levels.ctypes.data,
            self.scales.ctypes.data,
            self.offsets.ctypes.data,
        )

    @property
    def num_heads(self) -> int:
        """Heads that keys and values have."""
        return int(self.levels.shape[0])

    @property
    def capacity(self) -> int:
        """Rows there is room for."""
        return int(self.levels.shape[1])

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return int(self.scales.shape[2]) * self.quantisation.group_size

    @property
    def strides(self) -> tuple[int, int]:
        """From head to head: levels in bytes, scales in numbers."""
        words, groups = self.levels.shape[2], self.scales.shape[2]
        return self.capacity * words * _WORD_BYTES, self.capacity * groups


@dataclass(frozen=True, slots=True)
class AttendedPacked:
    """One sequence's part in an attention over quantised rows.

    Attributes:
        queries: Shape [queries, heads, width]; any strides but a dense last axis.
        keys: The sequence's keys, turned.
        values: Its values.
        output: Written; shape [queries, heads, value_width].
    """

    queries: Floats
    keys: PackedRows
    values: PackedRows
    output: Floats


def turned_block(width: int) -> int:
    """Rows are turned in blocks of so many: the largest power of two that divides a width."""
    return width & -width


def turn_factors(width: int) -> tuple[float, float]:
    """Powers of two, for keys and for queries, whose product undoes what turning both adds."""
    block = turned_block(width)
    key_factor = 0.5 ** ((block.bit_length() - 1) // 2)
    return key_factor, 1.0 / (block * key_factor)


def turned(rows: Floats, factor: float) -> Floats:
    """Walsh-Hadamard transforms of the blocks of each row; sums in the order of the native code.

    Args:
        rows: Shape [..., width].
        factor: Multiplies the result; a power of two.
    """
    block, half = turned_block(rows.shape[-1]), 1
    out = rows.astype(np.float32)
    while half < block:
        pairs = out.reshape(-1, 2, half)
        first, second = pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]
        out = np.stack([first, second], axis=1).reshape(rows.shape)
        half *= 2
    return out * np.float32(factor)


def native_quantise(library: Any, rows: Floats, into: PackedRows, is_key: bool) -> bool:
    """Appends rows, [tokens, kv_heads, width]; see ``quantised.c``."""
    quantisation = into.quantisation
    rows = np.ascontiguousarray(rows)
    levels, scales, offsets = into.addresses
    groups, words = into.scales.shape[2], into.levels.shape[2]
    refused: int = library.stoker_quantise(
        rows.ctypes.data,
        levels + into.num_rows * words * _WORD_BYTES,
        scales + into.num_rows * groups * _HALF_BYTES,
        offsets + into.num_rows * groups * _HALF_BYTES,
        *into.strides,
        *rows.shape,
        quantisation.group_size,
        quantisation.num_bits,
        int(is_key),
    )
    into.num_rows += 0 if refused else rows.shape[0]
    return refused == 0


def native_rows(parts: Sequence[AttendedPacked]) -> NDArray[np.int64]:
    """A ``quantised`` of quantised.h for the keys and the values of each part."""
    return np.array(
        [(*rows.addresses, *rows.strides) for part in parts for rows in (part.keys, part.values)],
        np.int64,
    )


def numpy_quantise(rows: Floats, into: PackedRows, is_key: bool) -> None:
    """The same in numpy, to the same bits."""
    quantisation = into.quantisation
    num_rows, num_heads, width = rows.shape
    if is_key:
        rows = turned(rows, turn_factors(width)[0])
    shape = (num_rows, num_heads, width // quantisation.group_size)
    groups = rows.reshape(*shape, quantisation.group_size)
    levels, scales, offsets = _levels(groups, np.float32(2**quantisation.num_bits - 1))
    if quantisation.num_bits == 4:
        pairs = levels.reshape(num_rows, num_heads, width // 2, 2)
        levels = pairs[..., 0] | (pairs[..., 1] << np.uint8(4))
    where = slice(into.num_rows, into.num_rows + num_rows)
    packed = levels.reshape(num_rows, num_heads, -1)
    into.levels.view(np.uint8)[:, where] = packed.transpose(1, 0, 2)
    into.scales[:, where] = scales.transpose(1, 0, 2)
    into.offsets[:, where] = offsets.transpose(1, 0, 2)
    into.num_rows += num_rows


def _levels(
    groups: Floats, top: np.float32
) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.float16]]:
    """Levels of groups [..., group], and a scale and an offset of each."""
    low, high = groups.min(axis=-1), groups.max(axis=-1)
    is_finite = np.isfinite(groups).all(axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):  # such groups become not-a-number
        scales, offsets = _half((high - low) / top), _half(low)
        scales[~is_finite] = offsets[~is_finite] = np.nan
        step = scales.astype(np.float32)[..., None]
        divisor = np.where(step > 0, step, np.float32(1))
        rounded = np.rint((groups - offsets.astype(np.float32)[..., None]) / divisor)
    rounded[(step[..., 0] == 0) | ~is_finite] = 0
    levels: NDArray[np.uint8] = np.clip(rounded, 0, top).astype(np.uint8)
    return levels, scales, offsets


def _half(numbers: Floats) -> NDArray[np.float16]:
    halves: NDArray[np.float16] = np.clip(numbers, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
    return halves


def dequantised(rows: PackedRows) -> Floats:
    """The numbers of all rows, shape [kv_heads, rows, width]; keys stay turned."""
    quantisation = rows.quantisation
    packed = rows.levels[:, : rows.num_rows].view(np.uint8)
    levels = _LEVELS_OF_BYTE[packed] if quantisation.num_bits == 4 else packed.astype(np.float32)
    shape = (rows.num_heads, rows.num_rows, rows.scales.shape[2], quantisation.group_size)
    numbers: Floats = levels.reshape(shape)
    numbers *= rows.scales[:, : rows.num_rows, :, None].astype(np.float32)
    numbers += rows.offsets[:, : rows.num_rows, :, None].astype(np.float32)
    return numbers.reshape(rows.num_heads, rows.num_rows, rows.width)
