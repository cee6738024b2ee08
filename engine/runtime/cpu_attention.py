"""Attention on host memory with the meaning of ``mx.fast.scaled_dot_product_attention``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from engine.runtime.cpu_ops import Attended, Floats, HostOps


def host_attention(ops: HostOps, stock: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """Makes the attention function of a processor.

    Args:
        ops: What computes.
        stock: Called for what this one does not do: sinks, array masks, other types, odd widths.
    """

    def attention(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        *,
        scale: float,
        mask: mx.array | str | None = None,
        **options: Any,
    ) -> mx.array:
        """Softmax attention.

        Args:
            queries: Shape [batch, heads, tokens, width].
            keys: Shape [batch, kv_heads, keys, width].
            values: Shape [batch, kv_heads, keys, value_width].
            scale: Factor of the scores.
            mask: None, or ``causal``: the last query sees the last key. Others go the stock way.
            **options: As the stock function's; any that is set goes the stock way.

        Returns:
            Shape [batch, heads, tokens, value_width].
        """
        is_plain = mask is None or (isinstance(mask, str) and mask == "causal")
        is_float = all(array.dtype == mx.float32 for array in (queries, keys, values))
        if is_plain and is_float and not any(option is not None for option in options.values()):
            output = _attend(ops, queries, keys, values, scale, mask is not None)
            if output is not None:
                return mx.array(output)
        return stock(queries, keys, values, scale=scale, mask=mask, **options)

    return attention


def _attend(
    ops: HostOps, queries: mx.array, keys: mx.array, values: mx.array, scale: float, causal: bool
) -> Floats | None:
    mx.eval(queries, keys, values)
    views = [_dense_rows(np.array(array, copy=False)) for array in (queries, keys, values)]
    batch, num_heads, num_tokens, _ = queries.shape
    output: Floats = np.empty((batch, num_heads, num_tokens, values.shape[3]), np.float32)
    parts = [
        Attended(
            views[0][i].transpose(1, 0, 2), views[1][i], views[2][i], output[i].transpose(1, 0, 2)
        )
        for i in range(batch)
    ]
    return output if ops.attend(parts, scale, causal) else None


def _dense_rows(view: Floats) -> Floats:
    return view if view.strides[-1] == view.itemsize else np.ascontiguousarray(view)
