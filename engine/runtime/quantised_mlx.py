"""Quantised keys and values by mlx's own operations, for metal and cuda."""

from __future__ import annotations

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.base import quantized_scaled_dot_product_attention

from engine.runtime.cpu_quantised import turn_factors, turned
from engine.runtime.quantised import Arrays, QuantisedRows


class MlxQuantisedOps:
    """Lazy operations on mlx arrays."""

    on_host = False

    def scale_type(self, dtype: mx.Dtype) -> mx.Dtype:
        """The rows' own type where it has 16 bits."""
        return dtype if dtype in (mx.float16, mx.bfloat16) else mx.float16

    def append(self, rows: QuantisedRows, new: mx.array) -> None:
        """See ``QuantisedOps``."""
        quantisation, buffers = rows.quantisation, rows.arrays or ()
        if rows.is_key:
            new = new @ turn_matrix(new.shape[3], new.dtype, is_key=True)
        levels, scales, offsets = mx.quantize(
            new, group_size=quantisation.group_size, bits=quantisation.num_bits
        )
        start, stop = rows.num_rows, rows.num_rows + new.shape[2]
        for buffer, part in zip(buffers, (levels, scales, offsets), strict=True):
            buffer[..., start:stop, :] = part

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
        """One query reads the rows as they are kept; for several they are unpacked once."""
        queries = queries @ turn_matrix(queries.shape[3], queries.dtype, is_key=False)
        if queries.shape[2] == 1 and sinks is None:
            attended: mx.array = quantized_scaled_dot_product_attention(
                queries,
                keys.rows(0, keys.num_rows),
                values.rows(0, values.num_rows),
                scale=scale,
                mask=mask,
                group_size=keys.quantisation.group_size,
                bits=keys.quantisation.num_bits,
            )
            return attended
        plain = [_plain(rows, queries.dtype) for rows in (keys, values)]
        return mx.fast.scaled_dot_product_attention(
            queries, *plain, scale=scale, mask=mask, sinks=sinks
        )


@cache
def _matrix(width: int, is_key: bool) -> Any:
    factor = turn_factors(width)[0 if is_key else 1]
    return turned(np.eye(width, dtype=np.float32), factor)


def turn_matrix(width: int, dtype: mx.Dtype, *, is_key: bool) -> mx.array:
    """What keys, or queries, are multiplied with: powers of two, exact in every type."""
    return mx.array(_matrix(width, is_key)).astype(dtype)


def _plain(rows: QuantisedRows, dtype: mx.Dtype) -> mx.array:
    parts: Arrays = rows.rows(0, rows.num_rows)
    levels, scales, offsets = parts
    return mx.dequantize(
        levels,
        scales.astype(dtype),
        offsets.astype(dtype),
        group_size=rows.quantisation.group_size,
        bits=rows.quantisation.num_bits,
    )
