"""A whole transformer block on the host's memory, for blocks of the common shape.

The shape: normalise, attend with rotary positions, add, normalise, SwiGLU, add (Llama, Qwen 2
and 3, Mistral, SmolLM and the like). Whether a block really is of that shape is not read from its
name: its output is compared with the stock block's when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import KVCache
from numpy.typing import NDArray

from engine.runtime.cpu_ops import Attended, Floats, HostArray, HostOps, Projection, host_array
from engine.runtime.cpu_packed import is_packable, pack_levels
from engine.runtime.cpu_quantised import AttendedPacked
from engine.runtime.cpu_rope import RotaryAngles, is_known_rope
from engine.runtime.quantised import QuantisedCache
from engine.runtime.quantised_host import HostQuantisedOps, append_quantised
from engine.runtime.ragged import RaggedLayer

MAX_KEPT_ROWS = 2048

HostCache = Any
"""A ``KVCache`` or a ``QuantisedCache``: what a host block appends to by itself."""

_LINEAR_NAMES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                 "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
_NORM_NAMES = ("input_layernorm", "post_attention_layernorm")


def host_view(array: mx.array) -> Floats:
    """An evaluated array's own memory; ``array`` must be float32."""
    mx.eval(array)
    return np.array(array, copy=False)


class Scratch:
    """Memory for intermediate results, kept between calls: fresh pages cost more than the work."""

    def __init__(self) -> None:
        """Makes an empty one."""
        self._kept: dict[tuple[str, int], HostArray] = {}

    def rows(self, name: str, num_rows: int, width: int) -> HostArray:
        """At least ``num_rows`` rows; what they hold is undefined."""
        kept = self._kept.get((name, width))
        if kept is not None and kept.array.shape[0] >= num_rows:
            return kept
        made = host_array(np.empty((num_rows, width), np.float32))
        if num_rows <= MAX_KEPT_ROWS:
            self._kept[name, width] = made
        return made


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation's parameters."""

    weight: HostArray
    epsilon: float


def is_common_shape(block: Any) -> bool:
    """Whether a block has the parts of the common shape, its norms in float32."""
    linears = [_part(block, name) for name in _LINEAR_NAMES]
    norms = [_part(block, name) for name in _NORM_NAMES]
    attention = _part(block, "self_attn")
    norms += [part for name in ("q_norm", "k_norm") if (part := _part(attention, name)) is not None]
    counts = (getattr(attention, name, None) for name in ("n_heads", "n_kv_heads", "scale"))
    return (
        all(type(part) in (nn.Linear, nn.QuantizedLinear) for part in linears)
        and all(type(part) is nn.RMSNorm and part.weight.dtype == mx.float32 for part in norms)
        and all(count is not None for count in counts)
        and is_known_rope(_part(attention, "rope"))
    )


def _part(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def projection_of(module: Any, ops: HostOps) -> Projection | None:
    """A linear layer's parameters, or an embedding's used as one.

    None where they are not float32, or quantised in a way that ``ops`` does not do.
    """
    bias = host_view(module["bias"]) if "bias" in module else None
    if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
        return ops.packed_projection(pack_levels(module), bias) if is_packable(module) else None
    weight = module["weight"]
    return ops.projection(host_view(weight), bias) if weight.dtype == mx.float32 else None


def _norm(module: Any) -> Norm:
    return Norm(host_array(host_view(module["weight"])), float(module.eps))


def sequence_caches(
    cache: Any, num_sequences: int, num_tokens: int, mask: Any
) -> Sequence[HostCache]:
    """Each sequence's own cache, where a host block can write to them; empty where not."""
    if isinstance(cache, RaggedLayer):
        caches = cache.caches if num_tokens == 1 else ()
    else:
        caches = (cache,) if num_sequences == 1 else ()
    is_causal = mask is None if num_tokens == 1 else isinstance(mask, str) and mask == "causal"
    return caches if is_causal and all(_is_for_host(each) for each in caches) else ()


def _is_for_host(cache: Any) -> bool:
    if isinstance(cache, QuantisedCache):
        return isinstance(cache.ops, HostQuantisedOps)
    return type(cache) is KVCache


class HostBlock:
    """A block of the common shape."""

    def __init__(self, block: Any, ops: HostOps, scratch: Scratch, angles: RotaryAngles) -> None:
        """Takes views of the block's parameters.

        Args:
            block: A block for which ``is_common_shape`` holds.
            ops: What computes.
            scratch: Memory shared by the blocks of a model.
            angles: The block's rotary angles.

        Raises:
            ValueError: ``ops`` does not do the block's linear layers.
        """
        attention = block.self_attn
        self.stock = block  # keeps the parameters alive
        self._ops, self._scratch, self._angles = ops, scratch, angles
        self._num_heads, self._num_kv_heads = int(attention.n_heads), int(attention.n_kv_heads)
        self._scale = float(attention.scale)
        made = [projection_of(_part(block, name), ops) for name in _LINEAR_NAMES]
        parts = [part for part in made if part is not None]
        if len(parts) < len(made):
            raise ValueError("a linear layer of this block is not one for the host")
        self._query, self._key, self._value, self._output, self._gate, self._up, self._down = parts
        names = ("q_norm", "k_norm")
        self._head_norms = {name: _norm(attention[name]) for name in names if name in attention}
        self._before_attention, self._before_mlp = (
            _norm(_part(block, name)) for name in _NORM_NAMES
        )

    @property
    def num_packed_bytes(self) -> int:
        """Memory of its weights in fewer bits."""
        parts = (
            self._query,
            self._key,
            self._value,
            self._output,
            self._gate,
            self._up,
            self._down,
        )
        return sum(part.packed.num_bytes for part in parts if part.packed is not None)

    def run(self, x: mx.array, caches: Sequence[HostCache]) -> mx.array:
        """The block's output; appends keys and values to the caches.

        Args:
            x: Shape [sequences, tokens, hidden], float32.
            caches: Each sequence's own.
        """
        num_rows, width = x.shape[0] * x.shape[1], x.shape[2]
        hidden = self._scratch.rows("hidden", num_rows, width)
        rows = hidden.array[:num_rows]
        np.copyto(rows, host_view(x).reshape(num_rows, width))
        normed = self._scratch.rows("normed", num_rows, width)
        self._normalize(self._before_attention, hidden, normed, num_rows)
        mixed = self._attend(normed, caches, num_rows)
        rows += self._multiply("added", self._output, mixed, num_rows).array[:num_rows]
        self._normalize(self._before_mlp, hidden, normed, num_rows)
        gate = self._multiply("gate", self._gate, normed, num_rows)
        up = self._multiply("up", self._up, normed, num_rows)
        self._ops.swiglu(gate, up, gate, num_rows * self._gate.num_outputs)
        rows += self._multiply("added", self._down, gate, num_rows).array[:num_rows]
        return mx.array(rows.reshape(x.shape))

    def _normalize(self, norm: Norm, x: HostArray, out: HostArray, num_rows: int) -> None:
        self._ops.rms_norm(x, norm.weight, out, num_rows, norm.epsilon)

    def _multiply(self, name: str, by: Projection, x: HostArray, num_rows: int) -> HostArray:
        out = self._scratch.rows(name, num_rows, by.num_outputs)
        self._ops.linear(x, by, out, num_rows)
        return out

    def _attend(self, x: HostArray, caches: Sequence[HostCache], num_rows: int) -> HostArray:
        queries = self._multiply("queries", self._query, x, num_rows)
        keys = self._multiply("keys", self._key, x, num_rows)
        values = self._multiply("values", self._value, x, num_rows)
        num_tokens = num_rows // len(caches)
        positions = _positions(caches, num_tokens)
        rotation = self._angles.up_to(int(positions.max()) + 1)
        for rows, norm, num_heads in (
            (queries, self._head_norms.get("q_norm"), self._num_heads),
            (keys, self._head_norms.get("k_norm"), self._num_kv_heads),
        ):
            if norm is not None:
                self._normalize(norm, rows, rows, num_rows * num_heads)
            self._ops.rope(rows, rotation, positions, num_heads)
        return self._mix(queries, keys, values, caches, num_tokens)

    def _mix(
        self,
        queries: HostArray,
        keys: HostArray,
        values: HostArray,
        caches: Sequence[HostCache],
        num_tokens: int,
    ) -> HostArray:
        shape = (len(caches), num_tokens, self._num_kv_heads, -1)
        num_rows = len(caches) * num_tokens
        new_keys = keys.array[:num_rows].reshape(shape)
        new_values = values.array[:num_rows].reshape(shape)
        each = queries.array[:num_rows].reshape(len(caches), num_tokens, self._num_heads, -1)
        mixed = self._scratch.rows("mixed", num_rows, self._num_heads * new_values.shape[-1])
        output = mixed.array[:num_rows].reshape(len(caches), num_tokens, self._num_heads, -1)
        if not self._attend_caches(caches, each, (new_keys, new_values), output):
            raise ValueError("the attention kernel does not do this head width")
        return mixed

    def _attend_caches(
        self,
        caches: Sequence[HostCache],
        queries: Floats,
        new: tuple[Floats, Floats],
        output: Floats,
    ) -> bool:
        """Appends to each sequence's cache and attends to all of it; arrays are by sequence."""
        plain: list[Attended] = []
        packed: list[AttendedPacked] = []
        for cache, query, keys, values, out in zip(caches, queries, *new, output, strict=True):
            if isinstance(cache, QuantisedCache):
                rows = append_quantised(cache, keys, values)
                packed.append(AttendedPacked(query, *rows, out))
            else:
                plain.append(Attended(query, *append(cache, keys, values), out))
        causal = queries.shape[1] > 1
        if packed:
            return self._ops.attend_quantised(packed, self._scale, causal)
        return self._ops.attend(plain, self._scale, causal)


def _positions(caches: Sequence[HostCache], num_tokens: int) -> NDArray[np.int64]:
    starts = np.array([cache.offset for cache in caches], np.int64)
    return (starts[:, None] + np.arange(num_tokens)).reshape(-1)


def append(cache: KVCache, keys: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Appends rows to a sequence's cache in place and gives all its rows.

    Rows before the offset are never written, so a slice of them that somebody holds stays as it is.

    Args:
        cache: The sequence's cache of one layer.
        keys: Shape [tokens, kv_heads, width].
        values: Shape [tokens, kv_heads, value_width].

    Returns:
        Views of keys and values, shape [kv_heads, all tokens, width].
    """
    start, stop = cache.offset, cache.offset + keys.shape[0]
    if cache.keys is None or stop > cache.keys.shape[2]:
        # The cache grows by its own rule; only then do rows pass through mlx.
        cache.update_and_fetch(
            mx.array(keys.transpose(1, 0, 2)[None]), mx.array(values.transpose(1, 0, 2)[None])
        )
        mx.eval(cache.keys, cache.values)
        return host_view(cache.keys)[0, :, :stop], host_view(cache.values)[0, :, :stop]
    all_keys, all_values = host_view(cache.keys)[0, :, :stop], host_view(cache.values)[0, :, :stop]
    all_keys[:, start:] = keys.transpose(1, 0, 2)
    all_values[:, start:] = values.transpose(1, 0, 2)
    cache.offset = stop
    return all_keys, all_values
