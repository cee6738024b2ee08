"""Compares a model with what it was made from: on a text, and in what both say by themselves."""

from __future__ import annotations

import gc
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engine.models.text_files import read_codec
from engine.models.verdict import Verdict
from engine.runtime.device import DeviceProfile
from engine.runtime.loader import Progress, load
from engine.runtime.perplexity import surprise
from engine.runtime.runner import ModelRunner

MAX_TEXT_TOKENS = 1024
LOGIT_TOKENS = 128
"""So many of the first tokens' logits of the source are kept: with 260 000 words that is 133 MB."""
SLICE_TOKENS = 128
NUM_SAID_TOKENS = 96
_RUN = 4


@dataclass
class _Reading:
    """What one model makes of the text.

    Attributes:
        surprise: Sum of -ln p of the tokens but the first.
        choices: The likeliest token after each.
        logits: Those of the first tokens, shape [tokens, vocabulary].
        said: What it says greedily after the text's beginning.
    """

    surprise: float = 0.0
    choices: list[int] = field(default_factory=list)
    logits: list[NDArray[np.float32]] = field(default_factory=list)
    said: list[int] = field(default_factory=list)


def judge(
    source: Path,
    result: Path,
    profile: DeviceProfile,
    text: str,
    progress: Progress,
    *,
    source_name: str,
    num_bits: int,
) -> Verdict:
    """Compares two models that have one tokenizer. Holds one of them in memory at a time.

    Args:
        source: Folder of the model that the other was made from.
        result: Folder of the other.
        profile: The device to run on.
        text: Some thousand tokens of prose.
        progress: Told how far it is; may raise to give up.
        source_name: What the source is called.
        num_bits: Bits of a weight that the other was made with; 0 where they were not changed.

    Raises:
        ModelLoadError: One of them cannot be loaded.
    """
    token_ids = read_codec(source).encode(text)[:MAX_TEXT_TOKENS]
    want = _read(source, profile, token_ids, _within(progress, 0.0, "reading with the source"))
    got = _read(result, profile, token_ids, _within(progress, 0.5, "reading with the result"))
    num_targets = len(token_ids) - 1
    agreeing = sum(a == b for a, b in zip(want.choices, got.choices, strict=True))
    return Verdict(
        source=source_name,
        num_bits=num_bits,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        num_tokens=len(token_ids),
        source_perplexity=math.exp(want.surprise / num_targets),
        perplexity=_perplexity(got.surprise, num_targets),
        max_logit_error=_largest_difference(want.logits, got.logits),
        greedy_agreement=agreeing / num_targets,
        source_variety=variety(want.said),
        variety=variety(got.said),
    )


def variety(token_ids: Sequence[int]) -> float:
    """Share of different runs of four tokens among all of a text; 1 where none comes twice."""
    runs = [tuple(token_ids[i : i + _RUN]) for i in range(len(token_ids) - _RUN + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def _perplexity(surprise: float, num_targets: int) -> float:
    mean = surprise / num_targets
    # Beyond this it is as good as infinite, and no number.
    return math.exp(mean) if math.isfinite(mean) and mean < 700 else math.inf


def _largest_difference(want: list[NDArray[np.float32]], got: list[NDArray[np.float32]]) -> float:
    largest = 0.0
    for expected, actual in zip(want, got, strict=True):
        difference = float(np.max(np.abs(expected - actual)))
        largest = max(largest, difference) if math.isfinite(difference) else math.inf
    return largest


def _within(progress: Progress, start: float, text: str) -> Progress:
    return lambda share, _text: progress(start + share / 2, text)


def _read(
    folder: Path, profile: DeviceProfile, token_ids: Sequence[int], progress: Progress
) -> _Reading:
    loaded = load(folder, profile, lambda share, text: progress(share * 0.3, text))
    reading = _Reading()
    try:
        _read_text(loaded.runner, token_ids, reading, progress)
        _listen(loaded.runner, token_ids[:SLICE_TOKENS], reading)
    finally:
        del loaded
        gc.collect()
        mx.clear_cache()
    progress(1.0, "")
    return reading


def _read_text(
    runner: ModelRunner, token_ids: Sequence[int], reading: _Reading, progress: Progress
) -> None:
    caches = runner.new_cache()
    num_targets = len(token_ids) - 1
    for start in range(0, num_targets, SLICE_TOKENS):
        part = token_ids[start : min(start + SLICE_TOKENS, num_targets)]
        targets = token_ids[start + 1 : start + 1 + len(part)]
        rows = np.array(runner.prompt_logits(caches, part).astype(mx.float32))
        if start < LOGIT_TOKENS:
            reading.logits.append(rows[: LOGIT_TOKENS - start].copy())
        reading.choices += np.argmax(rows, axis=-1).tolist()
        reading.surprise += surprise(rows, targets)
        progress(0.3 + 0.6 * (start + len(part)) / num_targets, "")


def _listen(runner: ModelRunner, prompt: Sequence[int], reading: _Reading) -> None:
    """Lets a model go on by itself for a while, always with its likeliest token."""
    caches = runner.new_cache()
    token_ids = list(prompt)
    for _ in range(NUM_SAID_TOKENS):
        logits = runner.prompt_logits(caches, token_ids)[-1]
        token_ids = [int(np.argmax(np.array(logits.astype(mx.float32))))]
        reading.said += token_ids
