"""One side of ``benchmarks.cpu_profile``: loads a model one way, then measures what it is asked.

Usage: ``python -m benchmarks.cpu_profile_child stock|numpy|native MODEL CACHE``. Each line of its
input is a JSON question, each line of its output the answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.child import answer_questions

SLICE_TOKENS = 512


class Side:
    """A loaded model and the ways to measure it."""

    def __init__(self, kind: str, model_dir: Path, cache_dir: Path) -> None:
        """Loads the model.

        Args:
            kind: ``stock`` is mlx-lm alone; ``numpy`` the profile without a compiler; ``native``
                the profile with its kernels.
            model_dir: The model's folder.
            cache_dir: Where built kernels are kept.
        """
        # The kernels must be there before mlx is.
        from engine.runtime import device

        plan = device.prepare(cache_dir) if kind == "native" else device.DevicePlan()
        import mlx.core as mx
        from mlx_lm.utils import load_model

        self._mx: Any = mx
        self._kind = kind
        self._model: Any = load_model(model_dir)[0]
        mx.eval(self._model.parameters())
        if kind != "stock":
            from engine.runtime import cpu, ragged

            cpu.install(self._model, device.detect(plan))
            ragged.install()

    def prefill(self, token_ids: list[int]) -> dict[str, Any]:
        """Seconds for a prompt; stock takes it whole, as mlx-lm does, the profile in slices."""
        size = len(token_ids) if self._kind == "stock" else SLICE_TOKENS
        began_s = time.perf_counter()
        self._filled(token_ids, size)
        return {"seconds": time.perf_counter() - began_s}

    def decode(self, token_ids: list[int], num_tokens: int, batch: int) -> dict[str, Any]:
        """Seconds of each greedy step of ``batch`` equal sequences, and the first one's tokens."""
        mx = self._mx
        step = self._batch_step(token_ids, batch)
        tokens = mx.array([[token_ids[-1]]] * batch)
        seconds, chosen = [], []
        for _ in range(num_tokens + 1):
            began_s = time.perf_counter()
            tokens = mx.argmax(step(tokens)[:, -1], axis=-1)[:, None]
            mx.eval(tokens)
            seconds.append(time.perf_counter() - began_s)
            chosen.append(int(tokens[0, 0]))
        return {"seconds": seconds[1:], "token_ids": chosen}  # the first step is the warm-up

    def _batch_step(self, token_ids: list[int], batch: int) -> Callable[[Any], Any]:
        model: Any = self._model
        mx = self._mx
        if self._kind == "stock":
            from mlx_lm.models.cache import make_prompt_cache

            # Equal lengths need no padding: the best case of a padded batch.
            cache = make_prompt_cache(model)
            mx.eval(model.model(mx.array([token_ids] * batch), cache=cache))
            return lambda tokens: model(tokens, cache=cache)
        from engine.runtime.ragged import ragged_layers

        caches = [self._filled(token_ids, SLICE_TOKENS) for _ in range(batch)]
        return lambda tokens: model(tokens, cache=ragged_layers(caches))

    def _filled(self, token_ids: list[int], size: int) -> list[Any]:
        from mlx_lm.models.cache import make_prompt_cache

        cache: list[Any] = make_prompt_cache(self._model)
        for start in range(0, len(token_ids), size):
            part = self._mx.array([token_ids[start : start + size]])
            self._mx.eval(self._model.model(part, cache=cache), [each.state for each in cache])
        return cache


def main() -> None:
    """Answers questions until its input ends."""
    kind, model_dir, cache_dir = sys.argv[1:4]
    side = Side(kind, Path(model_dir), Path(cache_dir))

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        measure = side.decode if question.pop("measure") == "decode" else side.prefill
        return measure(**question)

    answer_questions(answer)


if __name__ == "__main__":
    main()
