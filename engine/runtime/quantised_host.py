"""Quantised keys and values on the host's memory, for the CPU profile."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from engine.runtime.cpu_ops import HostOps
from engine.runtime.cpu_quantised import (
    AttendedPacked,
    Floats,
    PackedRows,
    dequantised,
    turn_factors,
    turned,
)
from engine.runtime.quantised import QuantisedCache, QuantisedRows


class HostQuantisedOps:
    """The processor's operations: results are there when a call returns."""

    on_host = True

    def __init__(self, ops: HostOps) -> None:
        """Works with what the processor's other layers work with."""
        self._ops = ops

    def scale_type(self, dtype: mx.Dtype) -> mx.Dtype:
        """Always the 16-bit float that processors know."""
        return mx.float16

    def append(self, rows: QuantisedRows, new: mx.array) -> None:
        """See ``QuantisedOps``."""
        self.append_host(rows, _host(new).transpose(1, 0, 2))

    def append_host(self, rows: QuantisedRows, new: Floats) -> None:
        """Quantises rows, [tokens, kv_heads, width], into room that is there."""
        packed = rows.packed()
        packed.num_rows = rows.num_rows
        if not self._ops.quantise(new, packed, rows.is_key):
            raise ValueError(f"the kernels do not quantise rows of {new.shape[2]} numbers")

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
        """Reads the rows as they are kept; with sinks or an array for a mask they are unpacked."""
        if queries.dtype == mx.float32 and sinks is None and not isinstance(mask, mx.array):
            each = _host(queries).transpose(1, 0, 2)
            output: Floats = np.empty((*queries.shape[1:3], values.width), np.float32)
            part = AttendedPacked(each, keys.packed(), values.packed(), output.transpose(1, 0, 2))
            if self._ops.attend_quantised([part], scale, mask is not None):
                return mx.array(output[None])
        return mx.fast.scaled_dot_product_attention(
            mx.array(turned(_host(queries), turn_factors(queries.shape[3])[1])[None]),
            mx.array(dequantised(keys.packed())[None]),
            mx.array(dequantised(values.packed())[None]),
            scale=scale,
            mask=mask,
            sinks=sinks,
        ).astype(queries.dtype)


def append_quantised(
    cache: QuantisedCache, keys: Floats, values: Floats
) -> tuple[PackedRows, PackedRows]:
    """Appends rows, [tokens, kv_heads, width], to a cache on the host, and gives all its rows.

    Args:
        cache: Made with ``HostQuantisedOps``.
        keys: Shape [tokens, kv_heads, width].
        values: Shape [tokens, kv_heads, value_width].

    Raises:
        TypeError: The cache was made with other operations.
    """
    ops = cache.ops
    if not isinstance(ops, HostQuantisedOps):
        raise TypeError("this cache is not one for the host")
    for rows, new in ((cache.keys, keys), (cache.values, values)):
        num_new, num_heads, width = new.shape
        rows.make_room(num_heads, width, num_new, mx.float16)
        ops.append_host(rows, new)
        rows.num_rows += num_new
    return cache.keys.packed(), cache.values.packed()


def _host(array: mx.array) -> Floats:
    """The only sequence of a batch as float32, a view where it is."""
    single = array.astype(mx.float32)
    mx.eval(single)
    view: Floats = np.array(single, copy=False)[0]
    return view if view.strides[-1] == view.itemsize else np.ascontiguousarray(view)
