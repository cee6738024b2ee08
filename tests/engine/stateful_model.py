"""The counting model with a state beside its tokens: it goes on only where that was kept.

The state is a digest of all tokens, carried on token by token. One that does not fit the tokens
gives a wrong next token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.records import TensorBytes
from engine.cache.payload_span import PayloadSpan
from engine.cache.spec import CacheSpec, LayerGroup, LayerKind
from engine.runtime.runner import DecodeRow
from tests.engine.counting_model import VOCABULARY, CountingRunner, next_token

CHECKPOINT_SLOTS = 3
"""What a checkpoint takes: its own rows, and two slots for the state."""


def _carry(state: int, token_id: int) -> int:
    return (state * 1_000_003 + token_id + 1) % (2**61 - 1)


class StatefulCache:
    """Tokens and state of one sequence."""

    def __init__(self, tokens: Sequence[int] = (), state: int = 0) -> None:
        self.tokens = list(tokens)
        self.state = state

    def append(self, token_ids: Sequence[int]) -> None:
        self.tokens.extend(token_ids)
        self.state = reduce(_carry, token_ids, self.state)


class StatefulRunner(CountingRunner):
    """A model runner that can be resumed only where its state was kept."""

    def __init__(self) -> None:
        super().__init__()
        groups = (
            *self.spec.groups,
            LayerGroup(kind=LayerKind.STATE, num_layers=1, state_bytes=100_000),
        )
        self.spec = CacheSpec(groups=groups, kv_format="tokens and state")

    def new_cache(self) -> Any:
        return StatefulCache()

    def restore(
        self, payloads: Sequence[Any], num_last_tokens: int, num_capacity_tokens: int
    ) -> Any:
        *blocks, (rest, state) = payloads
        assert state is not None, "the last payload is not a checkpoint"
        assert len(rest) == num_last_tokens
        assert all(len(rows) == BLOCK_TOKENS and other is None for rows, other in blocks)
        return StatefulCache([token for rows, _ in blocks for token in rows] + list(rest), state)

    def trim(self, caches: Any, num_tokens: int) -> None:
        raise AssertionError("a state cannot be trimmed")

    def append_block(self, caches: Any, payload: Any) -> None:
        raise AssertionError("a state cannot be appended")

    def cut_block(self, caches: Any, index: int) -> Any:
        return super().cut_block(caches.tokens, index), None

    def cut_tail(self, caches: Any, num_tokens: int) -> Any:
        return super().cut_tail(caches.tokens, num_tokens), caches.state

    def prefill(self, caches: Any, token_ids: Sequence[int]) -> None:
        self.num_prefilled += len(token_ids)
        caches.append(token_ids)

    def to_bytes(self, payload: Any) -> tuple[TensorBytes, ...]:
        rows, state = payload
        data = b"" if state is None else state.to_bytes(8, "little")
        return (*super().to_bytes(rows), TensorBytes("U8", (len(data),), data))

    def from_bytes(self, tensors: Sequence[TensorBytes], span: PayloadSpan) -> Any:
        self._check(tensors, self._shapes(span))
        data = bytes(tensors[1].data)
        rows = tuple(memoryview(tensors[0].data).cast("B").cast("I"))
        return rows, int.from_bytes(data, "little") if data else None

    def _shapes(self, span: PayloadSpan) -> list[tuple[str, tuple[int, ...]]]:
        return [*super()._shapes(span), ("U8", (8 if span.is_checkpoint else 0,))]

    def decode(self, rows: Sequence[DecodeRow]) -> list[int | None]:
        chosen: list[int | None] = []
        for row in rows:
            cache: Any = row.caches
            cache.append([row.token_ids[-1]])
            token = next_token(cache.tokens)
            is_right = cache.state == reduce(_carry, cache.tokens, 0)
            chosen.append(token if is_right else (token + 1) % VOCABULARY)
        return chosen
