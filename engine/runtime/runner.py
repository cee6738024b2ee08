"""The model runner: prompts in slices, tokens in ragged batches, caches in and out of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache
from numpy.typing import NDArray

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.records import TensorBytes
from engine.cache.payload_span import PayloadSpan
from engine.errors import ConstraintFailedError, EngineFailedError
from engine.runtime import kv, kv_bytes
from engine.runtime.kv import Payload
from engine.runtime.layer_caches import (
    LayerCaches,
    MakeFullCache,
    leaf_caches,
    make_layer_caches,
)
from engine.runtime.out_of_memory import told_apart
from engine.runtime.ragged import ragged_layers
from engine.runtime.sampling import Sampler

Chosen = int | ConstraintFailedError | None
"""What came of a row: its next token; or its constraint failed; or its logits were not finite."""


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

    def __init__(self, model: Any, make_full: MakeFullCache = KVCache) -> None:
        """Makes a runner.

        Args:
            model: A loaded, evaluated mlx-lm model with ``ragged.install`` done.
            make_full: Makes the caches of layers that keep rows of every token.

        Raises:
            KVFormatError: Rows of this model do not fit the caches that ``make_full`` makes.
        """
        self._model = model
        self._make_full = make_full
        # The part of the model below its output layer: a prompt needs no logits.
        body = getattr(model, "model", None)
        self._body = body if callable(body) else model
        self.batches = True
        """Whether several sequences may decode in one step; the self-test decides."""
        leaves = kv.after_a_token(model, self.new_cache)
        self.spec = kv.describe_cache(leaves)
        self._layout = kv.payload_layout(leaves) if self.spec.reusable else ()

    @property
    def model(self) -> Any:
        """The model it runs."""
        return self._model

    def new_cache(self, max_window_tokens: int | None = None) -> LayerCaches:
        """An empty cache for one sequence.

        Args:
            max_window_tokens: See ``make_layer_caches``.
        """
        return make_layer_caches(self._model, max_window_tokens, self._make_full)

    def restore(
        self, payloads: Sequence[object], num_last_tokens: int, num_capacity_tokens: int
    ) -> LayerCaches:
        """A sequence's cache from full blocks and a last one; see ``kv.gather``.

        Args:
            payloads: Blocks in order, at least one. Where layers keep windows or states, the last
                is a checkpoint.
            num_last_tokens: Tokens to take of the last one; of a checkpoint all, maybe none.
            num_capacity_tokens: Tokens to make room for in all.
        """
        num_tokens = (len(payloads) - 1) * BLOCK_TOKENS + num_last_tokens
        typed = [self._typed(payload) for payload in payloads]
        with told_apart():
            return kv.gather(self.new_cache, typed, num_tokens, num_capacity_tokens)

    def trim(self, caches: LayerCaches, num_tokens: int) -> None:
        """Makes a sequence's cache hold its first tokens only; see ``kv.trim``."""
        with told_apart():
            kv.trim(caches, num_tokens)

    def append_block(self, caches: LayerCaches, payload: object) -> None:
        """Appends a block's KV to a sequence's cache, instead of computing it.

        Only for models that need no checkpoints.
        """
        with told_apart():
            kv.append(caches, self._typed(payload))

    @staticmethod
    def _typed(payload: object) -> Payload:
        if not isinstance(payload, tuple):
            raise EngineFailedError("a block without content was matched")
        return payload

    def to_bytes(self, payload: object) -> tuple[TensorBytes, ...]:
        """A block's KV as bytes; see ``kv_bytes.to_bytes``."""
        with told_apart():
            return kv_bytes.to_bytes(self._typed(payload))

    def from_bytes(self, tensors: Sequence[TensorBytes], span: PayloadSpan) -> Payload:
        """The payload again; see ``kv_bytes.from_bytes``."""
        with told_apart():
            return kv_bytes.from_bytes(tensors, self._layout, span)

    def cut_block(self, caches: LayerCaches, index: int) -> Payload:
        """Copies the full block of that index out of a sequence's cache."""
        with told_apart():
            return kv.cut(caches, index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS)

    def cut_tail(self, caches: LayerCaches, num_tokens: int) -> Payload:
        """Copies what follows the last full block of ``num_tokens`` tokens.

        Where layers keep windows or states this is a checkpoint, and ``num_tokens`` is exactly
        what the caches hold.
        """
        with told_apart():
            return kv.checkpoint(caches, num_tokens // BLOCK_TOKENS * BLOCK_TOKENS, num_tokens)

    def prefill(self, caches: LayerCaches, token_ids: Sequence[int]) -> None:
        """Appends tokens to a sequence's cache.

        Args:
            caches: The sequence's cache.
            token_ids: At least one token.

        Raises:
            OutOfMemoryError: There is no memory for it; the cache is of no use any more.
        """
        with told_apart():
            hidden = self._body(mx.array([list(token_ids)]), cache=caches)
            # Only the caches are needed; what lies above the last layer's is never computed.
            state = [leaf.state for leaf in leaf_caches(caches) if not leaf.empty()]
            mx.eval(state if state else hidden)

    def prompt_logits(self, caches: LayerCaches, token_ids: Sequence[int]) -> mx.array:
        """Appends tokens to a sequence's cache, like ``prefill``, and gives what follows each.

        Args:
            caches: The sequence's cache.
            token_ids: At least one token.

        Returns:
            Logits, shape [tokens, vocabulary].
        """
        logits: mx.array = self._model(mx.array([list(token_ids)]), cache=caches)[0]
        mx.eval(logits)
        return logits

    def decode(self, rows: Sequence[DecodeRow]) -> list[Chosen]:
        """One step: appends a token to each sequence and chooses the next.

        Args:
            rows: The batch, at least one row.

        Returns:
            The next token of each, or why there is none.

        Raises:
            OutOfMemoryError: There is no memory for it; the caches are of no use any more.
        """
        with told_apart():
            logits = self._logits([row.caches for row in rows], [row.token_ids[-1] for row in rows])
            best = mx.argmax(logits, axis=-1)
            finite = mx.isfinite(mx.sum(logits, axis=-1))
            mx.eval(logits, best, finite)
        is_finite = np.array(finite)
        greedy = np.array(best)
        return [
            _choose(row, int(greedy[i]), logits[i]) if is_finite[i] else None
            for i, row in enumerate(rows)
        ]

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


def _choose(row: DecodeRow, best: int, logits: mx.array) -> Chosen:
    """A row's next token; its logits leave the device only where the best one is not the answer."""
    try:
        if row.sampler.takes(best):
            return best
        host: NDArray[np.float32] = np.array(logits.astype(mx.float32))
        return row.sampler.choose(host, row.token_ids)
    except ConstraintFailedError as error:
        return error
