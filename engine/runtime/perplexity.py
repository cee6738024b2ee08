"""How well a model foretells a text, through a cache as the engine fills it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidRequestError
from engine.runtime.runner import ModelRunner

SLICE_TOKENS = 256
"""Tokens that are computed together; those of later slices see them through the cache alone."""


def perplexity(
    runner: ModelRunner, token_ids: Sequence[int], progress: Callable[[float], None]
) -> float:
    """Perplexity of a text: e to the mean of -ln p over its tokens but the first.

    Args:
        runner: Runs the model; its cache decides what is lost.
        token_ids: The text, at least two tokens.
        progress: Told the share that is done, 0-1.

    Raises:
        InvalidRequestError: The text is too short.
    """
    num_targets = len(token_ids) - 1
    if num_targets < 1:
        raise InvalidRequestError("a perplexity needs a text of two tokens at least")
    caches = runner.new_cache()
    total = 0.0
    for start in range(0, num_targets, SLICE_TOKENS):
        part = token_ids[start : min(start + SLICE_TOKENS, num_targets)]
        targets = token_ids[start + 1 : start + 1 + len(part)]
        rows = np.array(runner.prompt_logits(caches, part).astype(mx.float32))
        total += surprise(rows, targets)
        progress((start + len(part)) / num_targets)
    return math.exp(total / num_targets)


def surprise(rows: NDArray[np.float32], targets: Sequence[int]) -> float:
    """The sum of -ln p of the tokens that followed.

    Args:
        rows: Logits, shape [tokens, vocabulary]; they are overwritten.
        targets: What followed each.
    """
    highest = rows.max(axis=-1)
    likely = rows[np.arange(len(targets)), list(targets)].astype(np.float64)
    rows -= highest[:, None]
    np.exp(rows, out=rows)
    totals = rows.sum(axis=-1, dtype=np.float64)
    return float((np.log(totals) + highest - likely).sum())
