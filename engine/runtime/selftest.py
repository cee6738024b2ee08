"""Proves at load that a model may be batched and that its cache may be cut and restored.

A model that fails is served more slowly, never wrongly: one sequence at a time, or without
reuse of prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engine.runtime.kv import LayerCaches, cut, gather
from engine.runtime.ragged import ragged_layers
from engine.runtime.runner import ModelRunner

_PROMPTS = (tuple(range(5, 28)), tuple(range(40, 51)))
_STEP_TOKENS = (7, 11, 13)
RELATIVE_TOLERANCE = 2e-2
"""Largest logit difference allowed, relative to the spread of the logits. Rounding in 16-bit
arithmetic with other shapes stays well below; a wrong position or a wrong row is far above."""


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What the model is fit for.

    Attributes:
        batches: Ragged batches give what one sequence at a time gives.
        restores: A restored cache gives what a computed one gives.
        reasons: Why not, in words.
    """

    batches: bool
    restores: bool
    reasons: tuple[str, ...]


def self_test(model: Any, runner: ModelRunner, vocabulary_size: int) -> SelfTestResult:
    """Runs two short sequences alone, together, and from a restored cache.

    Args:
        model: The loaded model.
        runner: Its runner.
        vocabulary_size: Token ids used stay below it.
    """
    prompts = [tuple(token % vocabulary_size for token in prompt) for prompt in _PROMPTS]
    steps = [token % vocabulary_size for token in _STEP_TOKENS]
    alone = [_run_alone(model, runner, prompt, steps) for prompt in prompts]
    reasons = []
    batch_problem = _problem(lambda: _run_together(model, runner, prompts, steps), alone)
    if batch_problem:
        reasons.append(f"batching: {batch_problem}")
    restores = runner.spec.reusable
    if restores:
        restore_problem = _problem(
            lambda: [_run_restored(model, runner, prompt, steps) for prompt in prompts], alone
        )
        restores = restore_problem == ""
        if restore_problem:
            reasons.append(f"restoring: {restore_problem}")
    else:
        reasons.append(f"restoring: {runner.spec.reason}")
    return SelfTestResult(batch_problem == "", restores, tuple(reasons))


Logits = list[NDArray[np.float32]]
"""Logits of one sequence, one array per step."""


def _problem(run: Any, expected: list[Logits]) -> str:
    """What is wrong with a run, in words; empty when it equals what is expected."""
    try:
        actual: list[Logits] = run()
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        # A model whose code does not fit the scheme fails in its own way; the reason is reported.
        return f"{type(error).__name__}: {error}"
    for expected_steps, actual_steps in zip(expected, actual, strict=True):
        for want, got in zip(expected_steps, actual_steps, strict=True):
            spread = float(np.ptp(want)) or 1.0
            difference = float(np.max(np.abs(want - got)))
            if not difference <= RELATIVE_TOLERANCE * spread:
                return f"logits differ by {difference:.3g} of {spread:.3g}"
    return ""


def _host(logits: mx.array) -> NDArray[np.float32]:
    return np.array(logits.astype(mx.float32))


def _step(model: Any, caches: LayerCaches, token_id: int) -> NDArray[np.float32]:
    return _host(model(mx.array([[token_id]]), cache=caches)[0, -1])


def _run_alone(
    model: Any, runner: ModelRunner, prompt: tuple[int, ...], steps: list[int]
) -> Logits:
    caches = runner.new_cache()
    # The whole model on the prompt: also checks that leaving the output layer out is harmless.
    mx.eval(model(mx.array([list(prompt)]), cache=caches))
    return [_step(model, caches, token_id) for token_id in steps]


def _run_together(
    model: Any, runner: ModelRunner, prompts: list[tuple[int, ...]], steps: list[int]
) -> list[Logits]:
    batch = [runner.new_cache() for _ in prompts]
    for caches, prompt in zip(batch, prompts, strict=True):
        # In two slices, as the engine does it.
        runner.prefill(caches, prompt[:6])
        runner.prefill(caches, prompt[6:])
    results: list[Logits] = [[] for _ in prompts]
    for token_id in steps:
        tokens = mx.array([[token_id]] * len(prompts))
        logits = model(tokens, cache=ragged_layers(batch))
        for row, steps_of_row in enumerate(results):
            steps_of_row.append(_host(logits[row, -1]))
    return results


def _run_restored(
    model: Any, runner: ModelRunner, prompt: tuple[int, ...], steps: list[int]
) -> Logits:
    caches = runner.new_cache()
    runner.prefill(caches, prompt)
    first = cut(caches, 0, 4)
    second = cut(caches, 4, len(prompt))
    restored = gather([first, second], len(prompt) - 5, len(prompt) + len(steps))
    runner.prefill(restored, prompt[-1:])
    return [_step(model, restored, token_id) for token_id in steps]
