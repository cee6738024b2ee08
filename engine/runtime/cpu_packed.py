"""Weights kept in as many bits as they have content: the decode step is bound by reading them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

GROUP_WEIGHTS = 32
BIT_WIDTHS = (4, 8)


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """Weights as levels: ``weight = scale * level + offset``.

    Attributes:
        levels: Bytes of all groups of 32 inputs; packed.c has their order.
        scales: One per group.
        offsets: One per group.
        num_bits: Bits per level, 4 or 8.
        num_outputs: Rows of the weight.
        addresses: Where levels, scales and offsets lie.
    """

    levels: NDArray[np.uint8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32]
    num_bits: int
    num_outputs: int
    addresses: tuple[int, int, int]

    @property
    def num_bytes(self) -> int:
        """Memory they take."""
        return self.levels.nbytes + self.scales.nbytes + self.offsets.nbytes


def is_packable(layer: Any) -> bool:
    """Whether a quantised mlx layer has a form that ``pack_levels`` takes."""
    return (
        layer.mode == "affine"
        and layer.bits in BIT_WIDTHS
        and layer.group_size % GROUP_WEIGHTS == 0
        and layer["scales"].dtype == mx.float32
    )


def pack_levels(layer: Any) -> PackedWeights:
    """The weights of a quantised mlx layer, level for level.

    Args:
        layer: A quantised linear layer or embedding for which ``is_packable`` holds.
    """
    num_bits = int(layer.bits)
    bytes_ = np.array(layer["weight"]).view(np.uint8)
    if num_bits == 4:  # mlx keeps neighbours in a byte; the kernels keep i and i + 16
        levels = np.stack([bytes_ & 15, bytes_ >> 4], axis=-1).reshape(-1, 2, GROUP_WEIGHTS // 2)
        bytes_ = levels[:, 0] | (levels[:, 1] << 4)
    repeats = int(layer.group_size) // GROUP_WEIGHTS
    scales, offsets = (
        np.repeat(np.array(layer[name]).reshape(-1), repeats) for name in ("scales", "biases")
    )
    num_outputs = layer["weight"].shape[0]
    return _packed(np.ascontiguousarray(bytes_), scales, offsets, num_bits, num_outputs)


def _packed(
    levels: NDArray[np.uint8],
    scales: NDArray[np.float32],
    offsets: NDArray[np.float32],
    num_bits: int,
    num_outputs: int,
) -> PackedWeights:
    addresses = (levels.ctypes.data, scales.ctypes.data, offsets.ctypes.data)
    return PackedWeights(levels, scales, offsets, num_bits, num_outputs, addresses)


def pack_weights(library: Any, weight: NDArray[np.float32], address: int) -> PackedWeights | None:
    """Packs weights that were once unpacked from 4 or 8 bits; None where one would not come back.

    Args:
        library: The native kernels.
        weight: Shape [outputs, inputs], contiguous.
        address: Where ``weight`` lies.
    """
    if weight.shape[1] % GROUP_WEIGHTS:
        return None
    scales = np.empty(weight.size // GROUP_WEIGHTS, np.float32)
    offsets = np.empty_like(scales)
    places = (scales.ctypes.data, offsets.ctypes.data)
    for num_bits in BIT_WIDTHS:
        levels = np.empty(weight.size * num_bits // 8, np.uint8)
        at = levels.ctypes.data
        if library.stoker_pack(address, at, *places, weight.size, num_bits) == 0:
            return _packed(levels, scales, offsets, num_bits, weight.shape[0])
    return None
