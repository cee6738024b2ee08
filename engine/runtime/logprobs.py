"""How likely tokens were, from the logits that a model gave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.request import TokenLogprob

Logits = NDArray[np.float32]


class LogprobReader:
    """Reads probabilities off logits.

    Args:
        num_top: How many of the likeliest tokens to tell.
        spell: The bytes of a token.
    """

    def __init__(self, num_top: int, spell: Callable[[int], bytes]) -> None:
        self._num_top = num_top
        self._spell = spell

    def read(self, logits: Logits, token_id: int) -> TokenLogprob:
        """How likely a token was, and which were the likeliest.

        Args:
            logits: What the model gave, shape [vocabulary].
            token_id: The token that was chosen.
        """
        # In float64: the sum runs over a large vocabulary.
        exact = logits.astype(np.float64)
        largest = exact.max()
        logprobs = exact - (largest + np.log(np.exp(exact - largest).sum()))
        top = tuple(self._entry(logprobs, int(each)) for each in self._likeliest(logprobs))
        return TokenLogprob(token_id, self._spell(token_id), float(logprobs[token_id]), top)

    def _entry(self, logprobs: NDArray[np.float64], token_id: int) -> TokenLogprob:
        return TokenLogprob(token_id, self._spell(token_id), float(logprobs[token_id]))

    def _likeliest(self, logprobs: NDArray[np.float64]) -> NDArray[np.intp]:
        k = min(self._num_top, logprobs.size)
        if k == 0:
            return np.empty(0, np.intp)
        candidates = np.argpartition(logprobs, -k)[-k:]
        return candidates[np.argsort(-logprobs[candidates], kind="stable")]
