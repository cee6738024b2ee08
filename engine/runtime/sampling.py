"""Choosing tokens from logits, on the host, one sequence at a time.

Sampling depends on nothing but the sequence's own logits and seed, so a seeded answer is the
same alone and in any batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.request import SamplingParams

Logits = NDArray[np.float32]


class Sampler:
    """Chooses the tokens of one sequence."""

    def __init__(self, params: SamplingParams) -> None:
        """Makes a sampler.

        Args:
            params: How to choose.
        """
        self._params = params
        self._rng = np.random.Generator(np.random.Philox(params.seed))
        self._counts: Counter[int] = Counter()

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the answer is the largest logit and nothing else matters."""
        p = self._params
        return p.temperature == 0 and not self._has_penalties

    @property
    def _has_penalties(self) -> bool:
        p = self._params
        return bool(p.repetition_penalty != 1.0 or p.presence_penalty or p.frequency_penalty)

    def observe(self, token_id: int) -> None:
        """Counts a generated token, for the penalties."""
        if self._has_penalties:
            self._counts[token_id] += 1

    def choose(self, logits: Logits, context_token_ids: Sequence[int]) -> int:
        """Chooses the next token.

        Args:
            logits: Shape [vocabulary]; not changed.
            context_token_ids: Prompt and generated tokens, for the repetition penalty.
        """
        if self._has_penalties:
            logits = self._penalise(logits, context_token_ids)
        if self._params.temperature == 0:
            return int(np.argmax(logits))
        return self._draw(logits)

    def _penalise(self, logits: Logits, context_token_ids: Sequence[int]) -> Logits:
        p = self._params
        logits = logits.copy()
        if p.repetition_penalty != 1.0 and p.repetition_context:
            recent = np.unique(np.array(context_token_ids[-p.repetition_context :], np.int64))
            chosen = logits[recent]
            logits[recent] = np.where(
                chosen > 0, chosen / p.repetition_penalty, chosen * p.repetition_penalty
            )
        if self._counts and (p.presence_penalty or p.frequency_penalty):
            tokens = np.fromiter(self._counts.keys(), dtype=np.int64)
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            logits[tokens] -= p.presence_penalty + p.frequency_penalty * counts
        return logits

    def _draw(self, logits: Logits) -> int:
        p = self._params
        # Filters look at the untempered distribution's order, which temperature does not change;
        # float64 keeps the cumulative sum honest over a large vocabulary.
        scaled = logits.astype(np.float64) / p.temperature
        candidates = self._top_k(scaled)
        probabilities = np.exp(scaled[candidates] - scaled[candidates].max())
        probabilities /= probabilities.sum()
        if p.min_p > 0:
            keep = probabilities >= p.min_p * probabilities.max()
            candidates, probabilities = candidates[keep], probabilities[keep]
        if p.top_p < 1:
            candidates, probabilities = _nucleus(candidates, probabilities, p.top_p)
        cumulative = np.cumsum(probabilities)
        drawn = np.searchsorted(cumulative, self._rng.random() * cumulative[-1], side="right")
        return int(candidates[min(int(drawn), len(candidates) - 1)])

    def _top_k(self, scaled: NDArray[np.float64]) -> NDArray[np.int64]:
        k = self._params.top_k
        if 0 < k < scaled.size:
            return np.argpartition(scaled, -k)[-k:].astype(np.int64)
        return np.arange(scaled.size, dtype=np.int64)


def _nucleus(
    candidates: NDArray[np.int64], probabilities: NDArray[np.float64], top_p: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The fewest most likely candidates whose mass reaches ``top_p``; at least one."""
    order = np.argsort(-probabilities, kind="stable")
    mass = np.cumsum(probabilities[order])
    num_kept = int(np.searchsorted(mass, top_p * mass[-1])) + 1
    kept = order[:num_kept]
    return candidates[kept], probabilities[kept]
