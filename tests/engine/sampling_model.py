"""A counting model that gives logits, and leaves the choice to each sequence's sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import ConstraintFailedError
from engine.runtime.runner import Chosen, DecodeRow
from tests.engine.counting_model import (
    END_TOKEN,
    NOT_FINITE,
    VOCABULARY,
    CountingRunner,
    next_token,
)

NUM_TURNS = 7


@dataclass
class Rota:
    """Lets a seventh of all tokens pass, another one at each place; then only the end, or nothing.

    A matcher that missed a token, or took one twice, lets the wrong ones pass from there on.
    """

    num_tokens: int
    is_open: bool = False
    fails: bool = False
    num_taken: int = 0

    @property
    def is_over(self) -> bool:
        return self.num_taken >= self.num_tokens and not self.is_open and not self.fails

    def allows(self, token_id: int) -> bool:
        if self.num_taken >= self.num_tokens:
            if self.fails:
                raise ConstraintFailedError("the grammar of the reply cannot be followed: a test")
            return token_id == END_TOKEN
        return token_id < VOCABULARY and token_id % NUM_TURNS == self.num_taken % NUM_TURNS

    def allowed(self) -> bytes:
        bits = [self.allows(token_id) for token_id in range(VOCABULARY + 1)]
        return np.packbits(bits, bitorder="little").tobytes()

    def advance(self, token_id: int) -> None:
        assert self.allows(token_id)
        self.num_taken += 1

    def copy(self) -> Rota:
        return Rota(self.num_tokens, self.is_open, self.fails, self.num_taken)


class SamplingRunner(CountingRunner):
    """Logits depend on nothing but the context; the right continuation has the largest."""

    def decode(self, rows: Sequence[DecodeRow]) -> list[Chosen]:  # type: ignore[override]
        return [self._choose(row) for row in rows]

    def _choose(self, row: DecodeRow) -> Chosen:
        row.caches.append(row.token_ids[-1])
        best = next_token(row.caches)
        if NOT_FINITE in row.caches or best in self.poisoned:
            return None
        logits = np.random.default_rng(best).normal(0, 1, VOCABULARY + 1).astype(np.float32)
        logits[best] = 10.0
        try:
            return best if row.sampler.takes(best) else row.sampler.choose(logits, row.token_ids)
        except ConstraintFailedError as error:
            return error
