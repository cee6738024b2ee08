"""The cache of a sliding-window attention layer, in the order of time."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.base import create_causal_mask

MAX_STEP_TOKENS = 256
"""Most rows of slack a buffer has: old rows are dropped once per that many new ones."""


class WindowCache:
    """Keys and values of the last tokens, oldest first.

    mlx-lm's own cache for such layers overwrites its oldest row, so where a row lies depends on
    how the tokens before came in. Here rows are appended to a buffer with slack, and the old ones
    are left behind when it is full: the last ``max_size`` rows can be cut out at any time, and no
    row is written twice.

    Attributes:
        max_size: Tokens that a token sees, itself included.
        keys: Buffer of shape [1, kv_heads, capacity, head_dim]; None before the first token.
        values: The same for values.
        offset: Tokens seen in all.
        num_rows: Rows of the buffer that are written; at least the last ``max_size`` tokens'.
    """

    def __init__(self, max_size: int) -> None:
        """An empty cache.

        Args:
            max_size: Tokens that a token sees, itself included.
        """
        self.max_size = max_size
        self.keys: Any = None
        self.values: Any = None
        self.offset = 0
        self.num_rows = 0
        self._num_seen = 0

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Appends rows.

        Args:
            keys: New keys, shape [1, kv_heads, tokens, head_dim].
            values: New values, shape [1, kv_heads, tokens, head_dim].

        Returns:
            All rows that the new tokens see between them: theirs and up to ``max_size - 1`` before.
        """
        num_new, num_before = keys.shape[2], self._num_before
        capacity = self._capacity(num_before + num_new)
        if self.keys is None or not self.num_rows + num_new <= self.keys.shape[2] <= capacity:
            self.keys = self._moved(self.keys, keys, num_before, capacity)
            self.values = self._moved(self.values, values, num_before, capacity)
            self.num_rows = num_before + num_new
        else:
            start, self.num_rows = self.num_rows, self.num_rows + num_new
            self.keys[..., start : self.num_rows, :] = keys
            self.values[..., start : self.num_rows, :] = values
        self.offset += num_new
        self._num_seen = num_before + num_new
        return self.keys_and_values()

    @property
    def _num_before(self) -> int:
        """Rows that the next token sees beside its own."""
        return min(self.num_rows, self.max_size - 1)

    def _capacity(self, num_rows: int) -> int:
        """Rows of a new buffer that begins with so many."""
        step = min(self.max_size, MAX_STEP_TOKENS)
        return (-(-num_rows // step) + 1) * step

    def _moved(
        self, old: mx.array | None, new: mx.array, num_before: int, capacity: int
    ) -> mx.array:
        """A new buffer: the rows that are still seen, the new rows, and room."""
        num_room = capacity - num_before - new.shape[2]
        parts = [new, mx.zeros((*new.shape[:2], num_room, new.shape[3]), new.dtype)]
        if old is not None and num_before:
            parts.insert(0, old[..., self.num_rows - num_before : self.num_rows, :])
        return mx.concatenate(parts, axis=2)

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """What the last update returned, for a layer that attends to another one's rows."""
        rows = slice(self.num_rows - self._num_seen, self.num_rows)
        return self.keys[..., rows, :], self.values[..., rows, :]

    def last_rows(self) -> tuple[mx.array, mx.array]:
        """Keys and values of the last ``max_size`` tokens, or of all if there are fewer."""
        rows = slice(max(0, self.num_rows - self.max_size), self.num_rows)
        return self.keys[..., rows, :], self.values[..., rows, :]

    def resume(self, keys: mx.array, values: mx.array, num_tokens: int) -> None:
        """Goes on from rows that ``last_rows`` gave.

        Args:
            keys: Shape [1, kv_heads, rows, head_dim].
            values: Shape [1, kv_heads, rows, head_dim].
            num_tokens: Tokens seen when they were taken.
        """
        self.num_rows = self._num_seen = 0
        self.keys = self.values = None
        self.update_and_fetch(keys, values)
        self.offset = num_tokens

    def make_mask(
        self, num_tokens: int, window_size: int | None = None, return_array: bool = False
    ) -> mx.array | str | None:
        """Who sees whom among the rows that the next update will return.

        Args:
            num_tokens: Tokens about to be appended.
            window_size: A smaller window than the cache's own, if the model has one.
            return_array: Whether the word for a plain causal mask will not do.
        """
        window = min(window_size or self.max_size, self.max_size)
        num_before = self._num_before
        if num_tokens == 1:
            num_seen = num_before + 1
            return mx.arange(num_seen) >= num_seen - window if num_seen > window else None
        if num_before + num_tokens > window or return_array:
            mask: mx.array = create_causal_mask(num_tokens, num_before, window_size=window)
            return mask
        return "causal"

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None]:
        """Its arrays, to be evaluated."""
        return self.keys, self.values

    def empty(self) -> bool:
        """Whether it has seen no token."""
        return self.keys is None
