"""The cache of a full-attention layer whose keys and values are kept in 4 or 8 bits.

Every row is quantised by itself when it is appended, and attention never sees anything but the
quantised rows, those of the slice that is being computed included. So a row is the same whatever it
was appended with, and a restored cache is the computed one.
"""

from __future__ import annotations

from typing import Protocol

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import create_attention_mask

from engine.cache.block import BLOCK_TOKENS
from engine.cache.quantisation import KV_GROUP_SIZES, KVQuantisation
from engine.errors import KVFormatError
from engine.runtime.cpu_quantised import PackedRows

Arrays = tuple[mx.array, ...]
"""Levels [1, kv_heads, rows, width * bits / 32], scales and offsets [1, kv_heads, rows, groups]."""


class QuantisedOps(Protocol):
    """What a device does with quantised rows."""

    @property
    def on_host(self) -> bool:
        """Whether it works on the host's own memory at once, instead of lazily."""

    def scale_type(self, dtype: mx.Dtype) -> mx.Dtype:
        """A type of 16 bits for scales and offsets of rows of that type."""

    def append(self, rows: QuantisedRows, new: mx.array) -> None:
        """Quantises rows, [1, kv_heads, tokens, width], into room that is there."""

    def attend(
        self,
        queries: mx.array,
        keys: QuantisedRows,
        values: QuantisedRows,
        *,
        scale: float,
        mask: mx.array | str | None,
        sinks: mx.array | None = None,
    ) -> mx.array:
        """Softmax attention, with the meaning of ``mx.fast.scaled_dot_product_attention``."""


class QuantisedRows:
    """Keys or values of one layer and sequence.

    Attributes:
        quantisation: Bits and group size.
        ops: What quantises and attends.
        is_key: Keys are turned by a Hadamard matrix before they are quantised.
        arrays: Buffers with room to grow; None before the first token.
        num_rows: Rows that are written.
    """

    def __init__(self, quantisation: KVQuantisation, ops: QuantisedOps, *, is_key: bool) -> None:
        self.quantisation = quantisation
        self.ops = ops
        self.is_key = is_key
        self.arrays: Arrays | None = None
        self.num_rows = 0
        self._packed: PackedRows | None = None

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return int(self._buffers()[1].shape[3]) * self.quantisation.group_size

    def append(self, new: mx.array) -> None:
        """Quantises rows, [1, kv_heads, tokens, width], behind those that are there.

        Raises:
            KVFormatError: The group size does not divide their width, but another does.
            ValueError: No group size does.
        """
        num_new = new.shape[2]
        self.make_room(new.shape[1], new.shape[3], num_new, self.ops.scale_type(new.dtype))
        self.ops.append(self, new)
        self.num_rows += num_new

    def append_kept(self, kept: Arrays) -> None:
        """Appends rows that ``rows`` gave, as they are."""
        num_heads, num_new, num_groups = kept[1].shape[1:]
        width = num_groups * self.quantisation.group_size
        self.make_room(num_heads, width, num_new, kept[1].dtype)
        start, stop = self.num_rows, self.num_rows + num_new
        for buffer, part in zip(self._buffers(), kept, strict=True):
            buffer[..., start:stop, :] = part
        self.resume(self._buffers(), stop)

    def make_room(self, num_heads: int, width: int, num_new: int, scale_type: mx.Dtype) -> None:
        """Sees to it that so many more rows fit.

        Raises:
            KVFormatError: The group size does not divide the width, but another does.
            ValueError: No group size does.
        """
        if self.arrays is not None and self.num_rows + num_new <= self.arrays[0].shape[2]:
            return
        quantisation = self.quantisation
        _check_width(width, quantisation.group_size)
        capacity = -(-(self.num_rows + num_new) // BLOCK_TOKENS) * BLOCK_TOKENS
        num_groups = width // quantisation.group_size
        kinds = (
            (width * quantisation.num_bits // 32, mx.uint32),
            (num_groups, scale_type),
            (num_groups, scale_type),
        )
        room = tuple(
            mx.zeros((1, num_heads, capacity - self.num_rows, last), kind) for last, kind in kinds
        )
        if self.num_rows:
            room = tuple(
                mx.concatenate([old, new], axis=2)
                for old, new in zip(self.rows(0, self.num_rows), room, strict=True)
            )
        self.resume(room, self.num_rows)

    def resume(self, arrays: Arrays, num_rows: int) -> None:
        """Takes over buffers that hold so many rows and room."""
        self.arrays, self.num_rows, self._packed = arrays, num_rows, None

    def rows(self, start: int, stop: int) -> Arrays:
        """Views of a range of rows."""
        return tuple(array[..., start:stop, :] for array in self._buffers())

    def packed(self) -> PackedRows:
        """The rows in the buffers' own memory; for devices that work on the host."""
        if self._packed is None:
            arrays = self._buffers()
            mx.eval(arrays)
            levels, scales, offsets = (np.array(array, copy=False)[0] for array in arrays)
            self._packed = PackedRows(levels, scales, offsets, self.quantisation, self.num_rows)
        return self._packed

    def _buffers(self) -> Arrays:
        if self.arrays is None:
            raise ValueError("nothing was appended yet")
        return self.arrays


def _check_width(width: int, group_size: int) -> None:
    if width % group_size == 0:
        return
    fitting = [str(size) for size in KV_GROUP_SIZES if width % size == 0]
    if not fitting:
        raise ValueError(f"no group size divides a head width of {width}")
    raise KVFormatError(
        f"kv_group_size {group_size} does not divide this model's head width {width}: "
        f"use {' or '.join(fitting)}"
    )


class QuantisedCache:
    """Keys and values of one layer and sequence; stands where mlx-lm expects a cache."""

    def __init__(self, quantisation: KVQuantisation, ops: QuantisedOps) -> None:
        """An empty cache.

        Args:
            quantisation: Bits and group size.
            ops: What quantises and attends.
        """
        self.ops = ops
        self.keys = QuantisedRows(quantisation, ops, is_key=True)
        self.values = QuantisedRows(quantisation, ops, is_key=False)

    @property
    def offset(self) -> int:
        """Tokens it holds."""
        return self.keys.num_rows

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[QuantisedRows, QuantisedRows]:
        """Appends rows.

        Args:
            keys: Shape [1, kv_heads, tokens, width].
            values: Shape [1, kv_heads, tokens, value_width].

        Returns:
            All rows, for the attention that ``ragged.install`` put in place.
        """
        self.keys.append(keys)
        self.values.append(values)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[QuantisedRows, QuantisedRows]:
        """All rows."""
        return self.keys, self.values

    def make_mask(
        self, num_tokens: int, window_size: int | None = None, return_array: bool = False
    ) -> mx.array | str | None:
        """Who sees whom when so many tokens are appended."""
        mask: mx.array | str | None = create_attention_mask(
            num_tokens, offset=self.offset, return_array=return_array, window_size=window_size
        )
        return mask

    @property
    def state(self) -> tuple[Arrays, ...]:
        """Its arrays, to be evaluated."""
        return tuple(rows.arrays for rows in (self.keys, self.values) if rows.arrays is not None)

    def empty(self) -> bool:
        """Whether it has seen no token."""
        return self.keys.arrays is None
