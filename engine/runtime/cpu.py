"""The CPU profile's fast paths: mlx-lm's slow layers, done on the host's memory instead.

MLX evaluates lazily and hands every small operation to another thread, which costs more than the
operation when a step has one token; and its vector code for processors is scalar. What is replaced
here is computed at once, on views of the arrays' own memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models import activations
from mlx_lm.models.cache import KVCache

from engine.runtime.cpu_attention import host_attention
from engine.runtime.cpu_block import (
    HostBlock,
    Scratch,
    host_view,
    is_common_shape,
    projection_of,
    sequence_caches,
)
from engine.runtime.cpu_numpy import NumpyOps
from engine.runtime.cpu_ops import HostOps, NativeOps, Projection, host_array
from engine.runtime.cpu_rope import RotaryAngles, rope_key
from engine.runtime.device import DeviceProfile

MIN_LINEAR_ROWS = 16
"""With fewer rows a linear layer between lazy operations is better left among them."""
MIN_LINEAR_WEIGHTS = 1 << 22
"""Such a layer, an output layer for one, takes so long that leaving the others costs nothing."""
MIN_SWIGLU_FLOATS = 1 << 14
MAX_DIFFERENCE = 1e-4
"""Of a host block from the stock block, relative to the largest output."""

Words = tuple[str, ...]
Function = Callable[..., mx.array]

_PRODUCTS: tuple[tuple[Any, str], ...] = (
    (nn.Linear, "__call__"),
    (nn.QuantizedLinear, "__call__"),
    (nn.Embedding, "as_linear"),
    (nn.QuantizedEmbedding, "as_linear"),
)

_originals: list[tuple[Any, str, Any]] = []


def install(model: Any, profile: DeviceProfile) -> tuple[Words, Words]:
    """Replaces what is slow on a processor; call on the engine thread.

    Results differ from the stock layers by float32 rounding only. Anything that is not float32
    goes the stock way. What an earlier call replaced is put back first.

    Args:
        model: A loaded mlx-lm model, weights evaluated.
        profile: What ``device.detect`` returned.

    Returns:
        What is on, and what is not and why, in words.
    """
    uninstall()
    ops = host_ops(profile)
    blocks = _host_blocks(model, ops)
    for block_class in {type(block.stock) for block in blocks.values()}:
        _replace(block_class, "__call__", _block_call(blocks, block_class.__call__))
    for owner, name in _PRODUCTS:
        _replace(owner, name, _linear(ops, getattr(owner, name)))
    stock_attention = mx.fast.scaled_dot_product_attention
    _replace(mx.fast, "scaled_dot_product_attention", host_attention(ops, stock_attention))
    swiglu = _swiglu(ops, activations.swiglu)
    for module in _modules_with_swiglu():
        _replace(module, "swiglu", swiglu)
    return _words(blocks, len(getattr(model, "layers", ())))


def host_ops(profile: DeviceProfile) -> HostOps:
    """What the processor computes with: the native kernels, or numpy where there are none."""
    return NativeOps(profile.kernels) if profile.kernels else NumpyOps()


def uninstall() -> None:
    """Puts back everything that ``install`` replaced."""
    while _originals:
        owner, name, original = _originals.pop()
        setattr(owner, name, original)


def _words(blocks: dict[int, HostBlock], num_layers: int) -> tuple[Words, Words]:
    on = ("linear layers, attention and SwiGLU on host memory",)
    if not blocks:
        return on, ("layers of this model run one operation at a time: not of the common shape",)
    whole = f"{len(blocks)} of {num_layers} layers run whole on host memory"
    num_packed_bytes = sum(block.num_packed_bytes for block in blocks.values())
    packed = f"decode reads 4 and 8-bit weights as such ({num_packed_bytes / 1e6:.0f} MB)"
    return (*on, whole, *([packed] if num_packed_bytes else [])), ()


def _replace(owner: Any, name: str, replacement: Any) -> None:
    _originals.append((owner, name, getattr(owner, name)))
    setattr(owner, name, replacement)


def _host_blocks(model: Any, ops: HostOps) -> dict[int, HostBlock]:
    """Host blocks that agree with the model's own, by the identity of the stock block."""
    scratch = Scratch()
    angles: dict[tuple[object, ...], RotaryAngles] = {}
    blocks: dict[int, HostBlock] = {}
    for block in getattr(model, "layers", ()):
        if not is_common_shape(block):
            continue
        attention = block.self_attn
        width = attention.k_proj.weight.shape[0] // attention.n_kv_heads
        key = (width, *rope_key(attention.rope))
        shared = angles.setdefault(key, RotaryAngles(attention.rope, width))
        try:
            made = HostBlock(block, ops, scratch, shared)
        except ValueError:  # quantised in a way that only the stock layer knows
            continue
        if _agrees(made):
            blocks[id(block)] = made
    return blocks


def _agrees(made: HostBlock) -> bool:
    """Compares a host block with its stock block over a short prompt and one more token."""
    width = made.stock.input_layernorm.weight.shape[0]
    stock_cache, host_cache = KVCache(), KVCache()
    generator = np.random.default_rng(0)
    for num_tokens, mask in ((3, "causal"), (1, None)):
        x = mx.array(generator.standard_normal((1, num_tokens, width)).astype(np.float32))
        try:
            expected = np.array(made.stock(x, mask, cache=stock_cache))
            got = np.array(made.run(x, (host_cache,)))
        except (TypeError, ValueError):  # another signature, or a width the kernels do not do
            return False
        bound = MAX_DIFFERENCE * float(np.abs(expected).max())
        if expected.shape != got.shape or not np.allclose(got, expected, rtol=0, atol=bound):
            return False
    return True


def _block_call(blocks: dict[int, HostBlock], stock: Function) -> Function:
    def call(self: Any, x: mx.array, mask: Any = None, cache: Any = None, **rest: Any) -> mx.array:
        block = blocks.get(id(self))
        if block is not None and not rest and cache is not None and x.dtype == mx.float32:
            caches = sequence_caches(cache, x.shape[0], x.shape[1], mask)
            if caches:
                return block.run(x, caches)
        return stock(self, x, mask, cache=cache, **rest)

    return call


def _linear(ops: HostOps, stock: Function) -> Function:
    ready: dict[int, tuple[mx.array, Projection | None]] = {}

    def projection(layer: Any) -> Projection | None:
        weight = layer["weight"]
        known = ready.get(id(layer))
        if known is None or known[0] is not weight:
            known = ready[id(layer)] = (weight, projection_of(layer, ops))
        return known[1]

    def call(self: Any, x: mx.array) -> mx.array:
        if x.dtype != mx.float32 or not _pays(self, x):
            return stock(self, x)
        by = projection(self)
        if by is None:
            return stock(self, x)
        rows = host_array(host_view(x).reshape(-1, x.shape[-1]))
        num_rows = rows.array.shape[0]
        out = host_array(np.empty((num_rows, by.num_outputs), np.float32))
        ops.linear(rows, by, out, num_rows)
        return mx.array(out.array.reshape(*x.shape[:-1], by.num_outputs))

    return call


def _pays(layer: Any, x: mx.array) -> bool:
    """Whether a product alone on the host beats one among lazy operations."""
    is_quantized = isinstance(layer, nn.QuantizedLinear | nn.QuantizedEmbedding)
    has_many_rows = x.size >= MIN_LINEAR_ROWS * x.shape[-1]
    return is_quantized or has_many_rows or layer["weight"].size >= MIN_LINEAR_WEIGHTS


def _swiglu(ops: HostOps, stock: Function) -> Function:
    def swiglu(gate: mx.array, x: mx.array) -> mx.array:
        is_float = gate.dtype == mx.float32 and x.dtype == mx.float32
        if not is_float or gate.size < MIN_SWIGLU_FLOATS or gate.shape != x.shape:
            return stock(gate, x)
        mx.eval(gate, x)
        out = host_array(np.empty(gate.shape, np.float32))
        ops.swiglu(host_array(host_view(gate)), host_array(host_view(x)), out, gate.size)
        return mx.array(out.array)

    return swiglu


def _modules_with_swiglu() -> list[Any]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("mlx_lm.models.")
        and getattr(module, "swiglu", None) is activations.swiglu
    ]
