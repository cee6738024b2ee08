"""The model runner: prompts in slices, tokens in ragged batches, caches in and out of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from numpy.typing import NDArray

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.records import TensorBytes
from engine.errors import EngineFailedError
from engine.runtime import kv, kv_bytes
from engine.runtime.kv import LayerCaches, Payload
from engine.runtime.ragged import ragged_layers
from engine.runtime.sampling import Sampler


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """One sequence's part in a decode step.

    Attributes:
        caches: Its own cache.
        token_ids: All its tokens; the last one is appended to the cache by the step.
        sampler: Chooses its next token.
    """

    caches: LayerCaches
    token_ids: Sequence[int]
    sampler: Sampler


class ModelRunner:
    """Runs one loaded model. Belongs to the thread that loaded it."""

    def __init__(self, model: Any) -> None:
        """Makes a runner.

        Args:
            model: A loaded, evaluated mlx-lm model with ``ragged.install`` done.
        """
        self._model = model
        # The part of the model below its output layer: a prompt needs no logits.
        body = getattr(model, "model", None)
        self._body = body if callable(body) else model
        self.batches = True
        """Whether several sequences may decode in one step; the self-test decides."""
        self.spec = kv.describe_cache(model)

    def new_cache(self) -> LayerCaches:
        """An empty cache for one sequence."""
        caches: LayerCaches = make_prompt_cache(self._model)
        return caches

    def restore(
        self, payloads: Sequence[object], num_last_tokens: int, num_capacity_tokens: int
    ) -> LayerCaches:
        """A sequence's cache from block payloads; see ``kv.gather``."""
        typed = [self._typed(payload) for payload in payloads]
        return kv.gather(typed, num_last_tokens, num_capacity_tokens)

    def append_block(self, caches: LayerCaches, payload: object) -> None:
        """Appends a block's KV to a sequence's cache, instead of computing it."""
        for cache, (keys, values) in zip(caches, self._typed(payload), strict=True):
            cache.update_and_fetch(keys, values)
        mx.eval([cache.state for cache in caches])

    @staticmethod
    def _typed(payload: object) -> Payload:
        if not isinstance(payload, tuple):
            raise EngineFailedError("a block without content was matched")
        return payload

    def to_bytes(self, payload: object) -> tuple[TensorBytes, ...]:
        """A block's KV as bytes; see ``kv_bytes.to_bytes``."""
        return kv_bytes.to_bytes(self._typed(payload))

    def from_bytes(self, tensors: Sequence[TensorBytes]) -> Payload:
        """The payload again; see ``kv_bytes.from_bytes``."""
        return kv_bytes.from_bytes(tensors)

    def cut_block(self, caches: LayerCaches, index: int) -> Payload:
        """Copies the full block of that index out of a sequence's cache."""
        return kv.cut(caches, index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS)

    def cut_tail(self, caches: LayerCaches, num_tokens: int) -> Payload:
        """Copies what follows the last full block of ``num_tokens`` tokens."""
        return kv.cut(caches, num_tokens // BLOCK_TOKENS * BLOCK_TOKENS, num_tokens)

    def prefill(self, caches: LayerCaches, token_ids: Sequence[int]) -> None:
        """Appends tokens to a sequence's cache.

        Args:
            caches: The sequence's cache.
            token_ids: At least one token.
        """
        hidden = self._body(mx.array([list(token_ids)]), cache=caches)
        # Only the caches are needed; what lies above the last layer's is never computed.
        state = [cache.state for cache in caches if not cache.empty()]
        mx.eval(state if state else hidden)

    def decode(self, rows: Sequence[DecodeRow]) -> list[int | None]:
        """One step: appends a token to each sequence and chooses the next.

        Args:
            rows: The batch, at least one row.

        Returns:
            The next token of each; None where the logits were not finite.
        """
        logits = self._logits([row.caches for row in rows], [row.token_ids[-1] for row in rows])
        best = mx.argmax(logits, axis=-1)
        finite = mx.isfinite(mx.sum(logits, axis=-1))
        mx.eval(logits, best, finite)
        is_finite = np.array(finite)
        greedy = np.array(best)
        chosen: list[int | None] = []
        for i, row in enumerate(rows):
            if not is_finite[i]:
                chosen.append(None)
            elif row.sampler.is_plain_greedy:
                chosen.append(int(greedy[i]))
            else:
                host: NDArray[np.float32] = np.array(logits[i].astype(mx.float32))
                chosen.append(row.sampler.choose(host, row.token_ids))
        return chosen

    def _logits(self, sequences: Sequence[LayerCaches], token_ids: Sequence[int]) -> mx.array:
        """Logits after appending one token to each sequence, shape [batch, vocabulary]."""
        if len(sequences) > 1 and self.batches:
            layers = ragged_layers(sequences)
            tokens = mx.array(list(token_ids))[:, None]
            output: mx.array = self._model(tokens, cache=layers)
            return output[:, -1, :]
        rows = [
            self._model(mx.array([[token_id]]), cache=caches)[:, -1, :]
            for caches, token_id in zip(sequences, token_ids, strict=True)
        ]
        return rows[0] if len(rows) == 1 else mx.concatenate(rows, axis=0)
