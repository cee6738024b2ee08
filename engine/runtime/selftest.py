"""Proves at load that a model may be batched and that its cache may be cut and restored.

A model that fails is served more slowly, never wrongly: one sequence at a time, or without
reuse of prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engine.cache.payload_span import PayloadSpan
from engine.cache.spec import LayerKind
from engine.errors import EngineFailedError, PayloadError
from engine.runtime import kv, kv_bytes, split_attention
from engine.runtime.kv import MakeCaches
from engine.runtime.layer_caches import LayerCaches
from engine.runtime.ragged import ragged_layers
from engine.runtime.runner import ModelRunner

_PROMPTS = (tuple(range(5, 28)), tuple(range(40, 51)))
_STEP_TOKENS = (7, 11, 13)
_OTHER_TOKENS = (17, 19, 23, 29)
_NARROW_WINDOW_TOKENS = 8
"""Windows are made this narrow for a second round, so that a few tokens go beyond them."""
RELATIVE_TOLERANCE = 2e-2
"""Largest logit difference allowed, relative to the spread of the logits. Rounding in 16-bit
arithmetic with other shapes stays well below; a wrong position or a wrong row is far above."""


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What the model is fit for.

    Attributes:
        batches: Ragged batches give what one sequence at a time gives.
        restores: A restored cache gives what a computed one gives.
        reasons: Why not, or what it costs, in words.
        splits_attention: Whether attention has to run sequence by sequence within a batch.
    """

    batches: bool
    restores: bool
    reasons: tuple[str, ...]
    splits_attention: bool = False


def self_test(model: Any, runner: ModelRunner, vocabulary_size: int) -> SelfTestResult:
    """Runs short sequences alone, together, and from a restored cache.

    Args:
        model: The loaded model.
        runner: Its runner.
        vocabulary_size: Token ids used stay below it.
    """
    rounds = [_Round(model, runner, runner.new_cache, vocabulary_size)]
    if any(group.kind is LayerKind.WINDOW for group in runner.spec.groups):
        narrow = partial(runner.new_cache, max_window_tokens=_NARROW_WINDOW_TOKENS)
        rounds.append(_Round(model, runner, narrow, vocabulary_size))
    batch_problem = next(filter(None, (each.batch_problem() for each in rounds)), "")
    restore_problem = (
        next(filter(None, (each.restore_problem() for each in rounds)), "")
        if runner.spec.reusable
        else runner.spec.reason
    )
    reasons = {"batching": batch_problem, "restoring": restore_problem}
    return SelfTestResult(
        batches=batch_problem == "",
        restores=restore_problem == "",
        reasons=tuple(f"{what}: {problem}" for what, problem in reasons.items() if problem),
    )


def fit_for_batches(model: Any, runner: ModelRunner, vocabulary_size: int) -> SelfTestResult:
    """Tests a model and, where ragged batches fail, tries them with attention split by sequence.

    Args:
        model: The loaded model; the code of its attention may be replaced.
        runner: Its runner.
        vocabulary_size: Token ids used stay below it.
    """
    result = self_test(model, runner, vocabulary_size)
    if result.batches or not split_attention.install(model):
        return result
    split = self_test(model, runner, vocabulary_size)
    if not split.batches:
        return result
    reason = "batching: attention runs sequence by sequence within a batch"
    return replace(split, reasons=(reason, *split.reasons), splits_attention=True)


Logits = list[NDArray[np.float32]]
"""Logits of one sequence, one array per step."""


MODEL_FAILURES = (
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    RuntimeError,
    EngineFailedError,
    PayloadError,
)


def _problem(run: Any, expected: list[Logits]) -> str:
    """What is wrong with a run, in words; empty when it equals what is expected."""
    try:
        actual: list[Logits] = run()
    except MODEL_FAILURES as error:
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


class _Round:
    """Sequences run in different ways with caches of one make."""

    def __init__(
        self, model: Any, runner: ModelRunner, make_caches: MakeCaches, vocabulary_size: int
    ) -> None:
        self._model = model
        self._runner = runner
        self._make_caches = make_caches
        self._steps = [token % vocabulary_size for token in _STEP_TOKENS]
        self._others = [token % vocabulary_size for token in _OTHER_TOKENS]
        self._prompts = [tuple(t % vocabulary_size for t in prompt) for prompt in _PROMPTS]
        self._alone = [self._run_alone(prompt) for prompt in self._prompts]

    def batch_problem(self) -> str:
        """What is wrong with batches, in words; empty when nothing is."""
        # A prompt of one token has an empty cache when it joins a batch.
        prompts = [*self._prompts, ()]
        return _problem(lambda: self._run_together(prompts), [*self._alone, self._run_alone(())])

    def restore_problem(self) -> str:
        """What is wrong with restored caches, in words; empty when nothing is."""
        return _problem(
            lambda: [self._run_restored(prompt) for prompt in self._prompts], self._alone
        )

    def _run_alone(self, prompt: tuple[int, ...]) -> Logits:
        caches = self._make_caches()
        if prompt:
            # The whole model on the prompt: also checks that leaving the output layer out is
            # harmless.
            mx.eval(self._model(mx.array([list(prompt)]), cache=caches))
        return [self._step(caches, token_id) for token_id in self._steps]

    def _step(self, caches: LayerCaches, token_id: int) -> NDArray[np.float32]:
        return _host(self._model(mx.array([[token_id]]), cache=caches)[0, -1])

    def _prefilled(self, prompt: tuple[int, ...]) -> LayerCaches:
        """A cache that a prompt went into in two slices, as the engine does it."""
        caches = self._make_caches()
        for part in (prompt[:6], prompt[6:]):
            if part:
                self._runner.prefill(caches, part)
        return caches

    def _run_together(self, prompts: list[tuple[int, ...]]) -> list[Logits]:
        batch = [self._prefilled(prompt) for prompt in prompts]
        results: list[Logits] = [[] for _ in prompts]
        for token_id in self._steps:
            tokens = mx.array([[token_id]] * len(prompts))
            logits = self._model(tokens, cache=ragged_layers(batch))
            for row, steps_of_row in enumerate(results):
                steps_of_row.append(_host(logits[row, -1]))
        return results

    def _run_restored(self, prompt: tuple[int, ...]) -> Logits:
        # A plain tail can be used in part, a checkpoint only where it was made.
        num_tokens = len(prompt) - 1
        num_held = num_tokens if self._runner.spec.needs_checkpoints else len(prompt)
        caches = self._prefilled(prompt[:num_held])
        cut = {
            PayloadSpan(0, 4): kv.cut(caches, 0, 4),
            PayloadSpan(4, num_held - 4, is_checkpoint=True): kv.checkpoint(caches, 4, num_held),
        }
        # What the sequence does next must not reach what was cut out of it.
        self._runner.prefill(caches, self._others)
        layout = kv.payload_layout(kv.after_a_token(self._model, self._make_caches))
        payloads = [
            kv_bytes.from_bytes(kv_bytes.to_bytes(payload), layout, span)
            for span, payload in cut.items()
        ]
        restored = kv.gather(
            self._make_caches, payloads, num_tokens, len(prompt) + len(self._steps)
        )
        self._runner.prefill(restored, prompt[num_tokens:])
        return [self._step(restored, token_id) for token_id in self._steps]
