"""The runner that a loaded model is fit for: quantised as asked, lossless where that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engine.cache.quantisation import KVQuantisation, format_key
from engine.errors import KVFormatError
from engine.runtime import split_attention
from engine.runtime.quantised import QuantisedCache, QuantisedOps
from engine.runtime.runner import ModelRunner
from engine.runtime.selftest import MODEL_FAILURES, SelfTestResult, fit_for_batches, self_test
from engine.runtime.selftest_record import PassedTest, SelfTestRecords

_PROMPT = tuple(range(5, 28))
_STEP_TOKENS = (7, 11, 13)
MAX_DEVIATION = 0.9
"""Of quantised logits from lossless ones, as root mean squares: what two unrelated models have is
1.4. A small model at 4 bits had 0.5 on senseless tokens, at 8 bits 0.02; a row that is attended to
at a wrong place is far above."""


@dataclass(frozen=True, slots=True)
class FittedRunner:
    """A runner that has passed the self-test, or as much of it as it could.

    Attributes:
        runner: Runs the model.
        result: What the self-test said of it.
        quantisation: How it keeps keys and values of full layers; None for lossless.
    """

    runner: ModelRunner
    result: SelfTestResult
    quantisation: KVQuantisation | None


def quantised_runner(model: Any, quantisation: KVQuantisation, ops: QuantisedOps) -> ModelRunner:
    """A runner with full layers quantised, not tested.

    Args:
        model: A loaded model with ``ragged.install`` done.
        quantisation: Bits and group size.
        ops: What the device does with quantised rows.

    Raises:
        KVFormatError: The group size does not divide its heads' width, but another does.
        ValueError: No group size does.
    """

    def make_full() -> QuantisedCache:
        return QuantisedCache(quantisation, ops)

    return ModelRunner(model, make_full)


def fit(
    model: Any,
    quantisation: KVQuantisation | None,
    make_ops: Callable[[], QuantisedOps],
    vocabulary_size: int,
) -> FittedRunner:
    """Finds the runner for a model, testing it.

    Args:
        model: A loaded model with ``ragged.install`` done.
        quantisation: How full layers are to be kept; None for lossless.
        make_ops: Makes what the device does with quantised rows.
        vocabulary_size: Token ids used stay below it.

    Raises:
        KVFormatError: The group size does not divide the heads' width, but another does.
    """
    runner = ModelRunner(model)
    result = fit_for_batches(model, runner, vocabulary_size)
    lossless = FittedRunner(runner, result, None)
    if quantisation is None:
        return lossless
    fitted = _quantised(model, quantisation, make_ops(), lossless, vocabulary_size)
    if isinstance(fitted, FittedRunner):
        return fitted
    reason = f"KV {quantisation.words}: {fitted}; it stays lossless"
    return replace(lossless, result=replace(result, reasons=(*result.reasons, reason)))


def fit_once(
    model: Any,
    quantisation: KVQuantisation | None,
    make_ops: Callable[[], QuantisedOps],
    vocabulary_size: int,
    records: SelfTestRecords,
    setting: tuple[str, ...],
) -> FittedRunner:
    """Finds the runner for a model, testing it unless it has passed before.

    Args:
        model: As for ``fit``, and so are the next three.
        quantisation: How full layers are to be kept.
        make_ops: Makes what the device does with quantised rows.
        vocabulary_size: Token ids used stay below it.
        records: What is known of the model.
        setting: How it is run: device, fast paths, types.

    Raises:
        KVFormatError: The group size does not divide the heads' width, but another does.
    """
    setting = (*setting, format_key(quantisation))
    passed = records.find(setting)
    if passed is not None:
        return _as_tested(model, quantisation, make_ops, passed)
    fitted = fit(model, quantisation, make_ops, vocabulary_size)
    result = fitted.result
    is_sound = result.batches and result.restores == fitted.runner.spec.reusable
    if is_sound and fitted.quantisation == quantisation:
        found = PassedTest(
            restores=result.restores,
            splits_attention=result.splits_attention,
            reasons=result.reasons,
        )
        records.keep(setting, found)
    return fitted


def _as_tested(
    model: Any,
    quantisation: KVQuantisation | None,
    make_ops: Callable[[], QuantisedOps],
    passed: PassedTest,
) -> FittedRunner:
    """The runner that a test before this load has found, set up in the same way."""
    if passed.splits_attention:
        split_attention.install(model)
    runner = (
        ModelRunner(model)
        if quantisation is None
        else quantised_runner(model, quantisation, make_ops())
    )
    result = SelfTestResult(
        batches=True,
        restores=passed.restores,
        reasons=passed.reasons,
        splits_attention=passed.splits_attention,
    )
    return FittedRunner(runner, result, quantisation)


def _quantised(
    model: Any,
    quantisation: KVQuantisation,
    ops: QuantisedOps,
    lossless: FittedRunner,
    vocabulary_size: int,
) -> FittedRunner | str:
    """The quantised runner, or why there is none, in words."""
    try:
        runner = quantised_runner(model, quantisation, ops)
        if runner.spec.kv_format == lossless.runner.spec.kv_format:
            return "no layer keeps rows of every token that could be quantised"
        result = self_test(model, runner, vocabulary_size)
        deviation = _deviation(model, runner, lossless.runner, vocabulary_size)
    except KVFormatError:
        raise
    except MODEL_FAILURES as error:
        # A model whose code does not fit the scheme fails in its own way; the reason is reported.
        return f"the model's own code fails with it ({type(error).__name__}: {error})"
    if (result.batches, result.restores) != (lossless.result.batches, lossless.result.restores):
        return "the self-test failed: " + "; ".join(result.reasons)
    if not deviation <= MAX_DEVIATION:
        return f"logits are off by {deviation:.2g} of their spread"
    return FittedRunner(runner, replace(result, reasons=lossless.result.reasons), quantisation)


def _deviation(
    model: Any, runner: ModelRunner, lossless: ModelRunner, vocabulary_size: int
) -> float:
    """How far quantised logits are from lossless ones, in the latter's standard deviation."""
    got, want = (_logits(model, each, vocabulary_size) for each in (runner, lossless))
    return float(np.sqrt(np.mean((got - want) ** 2)) / (float(want.std()) or 1.0))


def _logits(model: Any, runner: ModelRunner, vocabulary_size: int) -> NDArray[np.float32]:
    caches = runner.new_cache()
    runner.prefill(caches, [token % vocabulary_size for token in _PROMPT])
    steps = [
        model(mx.array([[token % vocabulary_size]]), cache=caches)[0, -1] for token in _STEP_TOKENS
    ]
    return np.array(mx.stack(steps).astype(mx.float32))
