"""Weights kept in as many bits as they have content: the decode step is bound by reading them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP_WEIGHTS = 32
BIT_WIDTHS = (4, 8)


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """Weights as levels: ``weight = scale * level + offset``, exact to the last bit.

    Attributes:
        levels: Bytes of all groups of 32 inputs; packed.c has their order.
        scales: One per group.
        offsets: One per group.
        num_bits: Bits per level, 4 or 8.
        levels_at: Address of ``levels``.
        scales_at: Address of ``scales``.
        offsets_at: Address of ``offsets``.
    """

    levels: NDArray[np.uint8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32]
    num_bits: int
    levels_at: int
    scales_at: int
    offsets_at: int

    @property
    def num_bytes(self) -> int:
        """Memory they take."""
        return self.levels.nbytes + self.scales.nbytes + self.offsets.nbytes


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
            return PackedWeights(levels, scales, offsets, num_bits, at, *places)
    return None
