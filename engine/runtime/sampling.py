"""Choosing tokens from logits, on the host, one sequence at a time.

Sampling depends on nothing but the sequence's own logits and seed, so a seeded answer is the
same alone and in any batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.constraint import TokenMatcher
from engine.errors import ConstraintFailedError, InvalidRequestError
from engine.request import Request, SamplingParams, TokenLogprob
from engine.runtime.logprobs import Logits, LogprobReader


class Vocabulary(Protocol):
    """A model's tokens; its text side is one."""

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are; their ids are the numbers below it."""

    def spell_token(self, token_id: int) -> bytes:
        """The bytes of one token."""


def make_sampler(request: Request, vocabulary: Vocabulary) -> Sampler:
    """A sampler for one turn.

    Args:
        request: The turn.
        vocabulary: The tokens it chooses from.

    Raises:
        InvalidRequestError: A bias is on a token that there is not.
    """
    params = request.sampling
    for token_id, _ in params.logit_bias:
        if not 0 <= token_id < vocabulary.vocabulary_size:
            raise InvalidRequestError(
                f"logit_bias names token {token_id}, and this model's tokens are 0 to "
                f"{vocabulary.vocabulary_size - 1}"
            )
    reader = None
    if params.num_logprobs is not None:
        reader = LogprobReader(params.num_logprobs, vocabulary.spell_token)
    matcher = request.constraint.begin() if request.constraint else None
    return Sampler(params, matcher=matcher, reader=reader)


class Sampler:
    """Chooses the tokens of one sequence."""

    def __init__(
        self,
        params: SamplingParams,
        *,
        matcher: TokenMatcher | None = None,
        reader: LogprobReader | None = None,
    ) -> None:
        """Makes a sampler.

        Args:
            params: How to choose.
            matcher: What may be chosen; None lets it be anything.
            reader: Tells how likely the chosen tokens were; None where nobody wants to know.
        """
        self._params = params
        self._matcher = matcher
        self._reader = reader
        self._biased = np.array([token for token, _ in params.logit_bias], np.int64)
        self._biases = np.array([bias for _, bias in params.logit_bias], np.float32)
        self.logprob: TokenLogprob | None = None
        """How likely the token was that was chosen last, where that is wanted."""
        self._rng = np.random.Generator(np.random.Philox(params.seed))
        self._counts: Counter[int] = Counter()

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow but the end of the turn."""
        return self._matcher is not None and self._matcher.is_over

    def takes(self, token_id: int) -> bool:
        """Whether the token of the largest logit is the answer, and no other logit matters.

        Args:
            token_id: That token.

        Raises:
            ConstraintFailedError: Nobody can tell any more what may come next.
        """
        p = self._params
        if p.temperature != 0 or self._reader is not None or p.logit_bias or self._has_penalties:
            return False
        return self._matcher is None or self._matcher.allows(token_id)

    @property
    def _has_penalties(self) -> bool:
        p = self._params
        return bool(p.repetition_penalty != 1.0 or p.presence_penalty or p.frequency_penalty)

    def observe(self, token_id: int) -> None:
        """Takes a generated token in, for the penalties and the constraint.

        Raises:
            ConstraintFailedError: The constraint does not let it pass.
        """
        if self._has_penalties:
            self._counts[token_id] += 1
        if self._matcher is not None:
            self._matcher.advance(token_id)

    def choose(self, logits: Logits, context_token_ids: Sequence[int]) -> int:
        """Chooses the next token.

        Args:
            logits: Shape [vocabulary]; not changed.
            context_token_ids: Prompt and generated tokens, for the repetition penalty.

        Raises:
            ConstraintFailedError: Nobody can tell any more what may come next.
        """
        adjusted = logits
        if self._has_penalties:
            adjusted = self._penalise(adjusted, context_token_ids)
        if self._biased.size:
            adjusted = adjusted.copy()
            np.add.at(adjusted, self._biased, self._biases)
        token_id = self._choose_allowed(adjusted)
        if self._reader is not None:
            self.logprob = self._reader.read(logits, token_id)
        return token_id

    def _choose_allowed(self, logits: Logits) -> int:
        if self._matcher is None:
            return self._choose_any(logits)
        bits = np.frombuffer(self._matcher.allowed(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, count=logits.size, bitorder="little"))
        if not allowed.size:
            raise ConstraintFailedError("the grammar of the reply lets no token follow")
        return int(allowed[self._choose_any(logits[allowed])])

    def _choose_any(self, logits: Logits) -> int:
        return int(np.argmax(logits)) if self._params.temperature == 0 else self._draw(logits)

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
