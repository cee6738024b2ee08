"""The CPU profile's fast paths: mlx-lm's slow layers, done on the host's memory instead.

MLX evaluates lazily and hands every small operation to another thread, which costs more than the
operation when a step has one token. What is replaced here is computed at once, on views of the
arrays' own memory, and the result goes back as an array that is already there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from engine.runtime.cpu_ops import Floats, HostOps, NativeOps, NumpyOps
from engine.runtime.device import DeviceProfile

Layer = Callable[[Any, mx.array], mx.array]

_originals: list[tuple[Any, str, Any]] = []


def install(model: Any, profile: DeviceProfile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Replaces what is slow on a processor in a loaded model; call on the engine thread.

    Results differ from the stock layers by float32 rounding only. Anything that is not float32
    goes the stock way.

    Args:
        model: A loaded mlx-lm model, weights evaluated.
        profile: What ``device.detect`` returned.

    Returns:
        What is on, and what is not and why, in words.
    """
    uninstall()
    ops = NativeOps(profile.kernels) if profile.kernels else NumpyOps()
    _replace(nn.Linear, "__call__", _linear(ops, nn.Linear.__call__))
    _replace(nn.Embedding, "as_linear", _as_linear(ops, nn.Embedding.as_linear))
    return ("linear layers on host memory",), ()


def uninstall() -> None:
    """Puts back everything that ``install`` replaced."""
    while _originals:
        owner, name, original = _originals.pop()
        setattr(owner, name, original)


def _replace(owner: Any, name: str, replacement: Any) -> None:
    _originals.append((owner, name, getattr(owner, name)))
    setattr(owner, name, replacement)


def host_view(array: mx.array) -> Floats:
    """An evaluated array's own memory; ``array`` must be float32."""
    mx.eval(array)
    return np.array(array, copy=False)


def _linear(ops: HostOps, stock: Layer) -> Layer:
    def call(self: nn.Linear, x: mx.array) -> mx.array:
        weight = self["weight"]
        if x.dtype != mx.float32 or weight.dtype != mx.float32:
            return stock(self, x)
        bias = host_view(self["bias"]) if "bias" in self else None
        return _multiply(ops, x, weight, bias)

    return call


def _as_linear(ops: HostOps, stock: Layer) -> Layer:
    def call(self: nn.Embedding, x: mx.array) -> mx.array:
        weight = self["weight"]
        if x.dtype != mx.float32 or weight.dtype != mx.float32:
            return stock(self, x)
        return _multiply(ops, x, weight, None)

    return call


def _multiply(ops: HostOps, x: mx.array, weight: mx.array, bias: Floats | None) -> mx.array:
    rows = np.ascontiguousarray(host_view(x).reshape(-1, x.shape[-1]))
    y = ops.linear(rows, np.ascontiguousarray(host_view(weight)), bias)
    return mx.array(y.reshape(*x.shape[:-1], y.shape[-1]))
