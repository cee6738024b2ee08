"""How a layer's cache becomes part of a block or a checkpoint and comes back, by kind of layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, KVCache

from engine.cache.block import blocks_for
from engine.cache.payload_span import PayloadSpan
from engine.cache.spec import LayerGroup, LayerKind
from engine.errors import EngineFailedError
from engine.runtime.payload_layout import ArrayLayout, Length
from engine.runtime.quantised import QuantisedCache
from engine.runtime.window import WindowCache

Part = tuple[mx.array, ...]
"""What one layer gives to a payload. Number, types and ranks are the same in every payload of a
model; a layer that has nothing to give has arrays with an axis of 0."""


class LayerCodec(Protocol):
    """Moves one kind of cache in and out of payloads."""

    def describe(self, cache: Any) -> tuple[LayerGroup, str]:
        """What it costs, as a group of one layer, and its types and shapes in words."""

    def layout(self, cache: Any) -> tuple[ArrayLayout, ...]:
        """What its part of every payload looks like; the cache holds one token."""

    def cut(self, cache: Any, start: int, stop: int) -> Part:
        """What a block of those tokens holds of it."""

    def checkpoint(self, cache: Any, start: int, stop: int) -> Part:
        """What resuming at ``stop`` needs of it beside the blocks before ``start``."""

    def append(self, cache: Any, part: Part) -> None:
        """Appends what ``cut`` gave."""

    def trim(self, cache: Any, num_tokens: int) -> None:
        """Takes the tokens after the first ``num_tokens`` back."""

    def fill(self, cache: Any, parts: Sequence[Part], num_tokens: int, num_capacity: int) -> None:
        """Makes an empty cache hold what parts of payloads in order hold.

        ``num_tokens`` are taken, and room is made for ``num_capacity`` in all.
        """


class FullCodec:
    """Full and latent attention: rows of every token."""

    def describe(self, cache: KVCache) -> tuple[LayerGroup, str]:
        """See ``LayerCodec``."""
        group = LayerGroup(kind=LayerKind.FULL, num_layers=1, bytes_per_token=bytes_per_row(cache))
        return group, row_layout(cache)

    def layout(self, cache: KVCache) -> tuple[ArrayLayout, ...]:
        """Keys and values: a row of every token."""
        return _rows_layout(self.cut(cache, 0, 1), _num_tokens)

    def cut(self, cache: KVCache, start: int, stop: int) -> Part:
        """The rows of those tokens.

        Raises:
            EngineFailedError: The cache does not hold them.
        """
        if stop > cache.offset:
            raise EngineFailedError(f"a cache of {cache.offset} tokens has no row {stop - 1}")
        return detached(cache.keys[..., start:stop, :], cache.values[..., start:stop, :])

    checkpoint = cut

    def trim(self, cache: KVCache, num_tokens: int) -> None:
        """See ``LayerCodec``."""
        _check_held(cache.offset, num_tokens)
        cache.offset = num_tokens

    def append(self, cache: KVCache, part: Part) -> None:
        """See ``LayerCodec``."""
        cache.update_and_fetch(*part)

    def fill(
        self, cache: KVCache, parts: Sequence[Part], num_tokens: int, num_capacity: int
    ) -> None:
        """See ``LayerCodec``."""
        cache.keys = _joined([part[0] for part in parts], num_tokens, num_capacity)
        cache.values = _joined([part[1] for part in parts], num_tokens, num_capacity)
        cache.offset = num_tokens


class QuantisedCodec:
    """Full attention in few bits: levels, scales and offsets of every token's key and value."""

    def describe(self, cache: QuantisedCache) -> tuple[LayerGroup, str]:
        """See ``LayerCodec``."""
        keys, values = cache.keys, cache.values
        row = [*keys.rows(0, 1), *values.rows(0, 1)]
        group = LayerGroup(
            kind=LayerKind.FULL, num_layers=1, bytes_per_token=sum(array.nbytes for array in row)
        )
        heads, scale_type = row[0].shape[1], row[1].dtype
        widths = f"k{heads}x{keys.width} v{heads}x{values.width}"
        return group, f"{keys.quantisation.key} turned {scale_type} {widths}"

    def layout(self, cache: QuantisedCache) -> tuple[ArrayLayout, ...]:
        """Levels, scales and offsets of keys and of values: a row of every token."""
        return _rows_layout(self.cut(cache, 0, 1), _num_tokens)

    def cut(self, cache: QuantisedCache, start: int, stop: int) -> Part:
        """The rows of those tokens, as they are kept.

        Raises:
            EngineFailedError: The cache does not hold them.
        """
        if stop > cache.offset:
            raise EngineFailedError(f"a cache of {cache.offset} tokens has no row {stop - 1}")
        return detached(*cache.keys.rows(start, stop), *cache.values.rows(start, stop))

    checkpoint = cut

    def trim(self, cache: QuantisedCache, num_tokens: int) -> None:
        """See ``LayerCodec``."""
        _check_held(cache.offset, num_tokens)
        for rows in (cache.keys, cache.values):
            if rows.arrays is not None:
                rows.resume(rows.arrays, num_tokens)

    def append(self, cache: QuantisedCache, part: Part) -> None:
        """See ``LayerCodec``."""
        cache.keys.append_kept(part[:3])
        cache.values.append_kept(part[3:])

    def fill(
        self, cache: QuantisedCache, parts: Sequence[Part], num_tokens: int, num_capacity: int
    ) -> None:
        """See ``LayerCodec``."""
        arrays = [
            _joined([part[index] for part in parts], num_tokens, num_capacity) for index in range(6)
        ]
        cache.keys.resume(tuple(arrays[:3]), num_tokens)
        cache.values.resume(tuple(arrays[3:]), num_tokens)


class WindowCodec:
    """Sliding-window attention: nothing in a block, the last rows in a checkpoint."""

    def describe(self, cache: WindowCache) -> tuple[LayerGroup, str]:
        """See ``LayerCodec``."""
        group = LayerGroup(
            kind=LayerKind.WINDOW,
            num_layers=1,
            bytes_per_token=bytes_per_row(cache),
            window_tokens=cache.max_size,
        )
        return group, f"{row_layout(cache)} window {cache.max_size}"

    def layout(self, cache: WindowCache) -> tuple[ArrayLayout, ...]:
        """Keys and values: in a checkpoint a row of every token that is in the window."""
        window_tokens = cache.max_size

        def num_rows(span: PayloadSpan) -> int:
            return min(span.stop, window_tokens) if span.is_checkpoint else 0

        return _rows_layout(cache.last_rows(), num_rows)

    def cut(self, cache: WindowCache, start: int, stop: int) -> Part:
        """No rows."""
        return tuple(
            mx.zeros((*rows.shape[:2], 0, rows.shape[3]), rows.dtype) for rows in cache.last_rows()
        )

    def checkpoint(self, cache: WindowCache, start: int, stop: int) -> Part:
        """The rows in the window.

        Raises:
            EngineFailedError: It has seen another number of tokens.
        """
        if stop != cache.offset:
            raise EngineFailedError(f"no checkpoint at {stop}: the cache is at {cache.offset}")
        return detached(*cache.last_rows())

    def trim(self, cache: WindowCache, num_tokens: int) -> None:
        """Refused: what left the window is gone."""
        raise EngineFailedError("a sliding window cannot be trimmed")

    def append(self, cache: WindowCache, part: Part) -> None:
        """Refused: a block has no rows of it."""
        raise EngineFailedError("a sliding window cannot go on from a block")

    def fill(
        self, cache: WindowCache, parts: Sequence[Part], num_tokens: int, num_capacity: int
    ) -> None:
        """See ``LayerCodec``.

        Raises:
            EngineFailedError: The last payload is no checkpoint.
        """
        keys, values = parts[-1]
        if keys.shape[2] != min(num_tokens, cache.max_size):
            raise EngineFailedError("a sliding window can be restored from a checkpoint only")
        cache.resume(keys, values, num_tokens)


class StateCodec:
    """State-space and linear attention: nothing in a block, the states in a checkpoint."""

    def describe(self, cache: ArraysCache) -> tuple[LayerGroup, str]:
        """See ``LayerCodec``."""
        states = [state for state in cache.cache if state is not None]
        group = LayerGroup(
            kind=LayerKind.STATE,
            num_layers=1,
            state_bytes=sum(state.nbytes for state in states),
        )
        shapes = (f"{state.dtype} {'x'.join(map(str, state.shape[1:]))}" for state in states)
        return group, f"states {', '.join(shapes)}"

    def layout(self, cache: ArraysCache) -> tuple[ArrayLayout, ...]:
        """Its states: in a checkpoint each that the model sets."""
        return tuple(_state_layout(_or_absent(state)) for state in cache.cache)

    def cut(self, cache: ArraysCache, start: int, stop: int) -> Part:
        """No states."""
        states = (_or_absent(state) for state in cache.cache)
        return tuple(mx.zeros((0, *state.shape[1:]), state.dtype) for state in states)

    def checkpoint(self, cache: ArraysCache, start: int, stop: int) -> Part:
        """The states as they are."""
        return detached(*(_or_absent(state) for state in cache.cache))

    def trim(self, cache: ArraysCache, num_tokens: int) -> None:
        """Refused: an earlier state is gone."""
        raise EngineFailedError("a state cannot be trimmed")

    def append(self, cache: ArraysCache, part: Part) -> None:
        """Refused: a block has no states."""
        raise EngineFailedError("a state cannot go on from a block")

    def fill(
        self, cache: ArraysCache, parts: Sequence[Part], num_tokens: int, num_capacity: int
    ) -> None:
        """See ``LayerCodec``.

        Raises:
            EngineFailedError: The last payload is no checkpoint.
        """
        if not any(state.size for state in parts[-1]):
            raise EngineFailedError("a state can be restored from a checkpoint only")
        for index, state in enumerate(parts[-1]):
            cache[index] = state if state.shape[0] else None


def _rows_layout(part: Part, num_rows: Length) -> tuple[ArrayLayout, ...]:
    """Of arrays of shape [1, kv_heads, rows, width]."""
    return tuple(ArrayLayout(rows.dtype, tuple(rows.shape), 2, num_rows) for rows in part)


def _num_tokens(span: PayloadSpan) -> int:
    return span.num_tokens


def _state_layout(state: mx.array) -> ArrayLayout:
    num_sequences = state.shape[0]

    def length(span: PayloadSpan) -> int:
        return num_sequences if span.is_checkpoint else 0

    return ArrayLayout(state.dtype, tuple(state.shape), 0, length)


def _or_absent(state: mx.array | None) -> mx.array:
    """A state that the model never sets has no rows and no shape of its own."""
    return mx.zeros((0,)) if state is None else state


def detached(*arrays: mx.array) -> Part:
    """Copies that share no memory with anything; to be evaluated."""
    # Joined to nothing: what is contiguous and nearly all of its buffer, mlx would not copy.
    return tuple(mx.concatenate([array, array[:0]], axis=0) for array in arrays)


def _check_held(num_held: int, num_tokens: int) -> None:
    if num_tokens > num_held:
        raise EngineFailedError(f"a cache of {num_held} tokens has no {num_tokens}")


def _joined(parts: list[mx.array], num_tokens: int, num_capacity: int) -> mx.array:
    """Rows of blocks in one buffer; of the last block as many as make up the number of tokens."""
    num_before = sum(part.shape[2] for part in parts[:-1])
    parts = [*parts[:-1], parts[-1][..., : num_tokens - num_before, :]]
    # mlx-lm's cache grows in steps of its own by copying itself; room made here saves that.
    num_room = max(0, blocks_for(num_capacity) * KVCache.step - num_tokens)
    if num_room:
        heads, width = parts[0].shape[1], parts[0].shape[3]
        parts.append(mx.zeros((1, heads, num_room, width), parts[0].dtype))
    joined: mx.array = mx.concatenate(parts, axis=2)
    if joined.shape[2] != num_tokens + num_room:
        raise EngineFailedError(f"blocks of {num_before} tokens and a tail are not {num_tokens}")
    return joined


def bytes_per_row(cache: Any) -> int:
    """Bytes of one token's key and value."""
    return sum(int(array.nbytes) // int(array.shape[2]) for array in (cache.keys, cache.values))


def row_layout(cache: Any) -> str:
    """Type, heads and widths of a cache's rows."""
    keys, values = cache.keys, cache.values
    return f"{keys.dtype} k{keys.shape[1]}x{keys.shape[3]} v{values.shape[1]}x{values.shape[3]}"


_CODECS: dict[type, LayerCodec] = {
    KVCache: FullCodec(),
    QuantisedCache: QuantisedCodec(),
    WindowCache: WindowCodec(),
    ArraysCache: StateCodec(),
}


def codec_of(cache: Any) -> LayerCodec | None:
    """How a cache is cut and restored; None where that is not understood here.

    Args:
        cache: One layer's cache, or one of a list of caches.
    """
    return _CODECS.get(type(cache))
