"""The engine on models of every kind of layer: the same tokens, wherever a prefix comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from engine.cache.block import BLOCK_TOKENS
from engine.request import FinishReason, PromptPart, SamplingParams
from engine.runtime import ragged
from engine.runtime.runner import DecodeRow, ModelRunner
from engine.runtime.sampling import Sampler
from tests.engine.counting_model import CountingRunner
from tests.engine.disk_core import DiskCore
from tests.engine.turns import Turn, check_pool, submit
from tests.runtime.tiny_models import ARCHITECTURES, NEED_CHECKPOINTS, make_tiny_model

NUM_GENERATED = 8
NUM_SHARED = 300
CASES = [
    *((name, {}) for name in ARCHITECTURES),
    ("gemma3_text", {"sliding_window": 300}),
    ("gpt_oss", {"sliding_window": 300}),
]


def numbers(num_tokens: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 100, num_tokens)]


def _strengthen(path: str, module: nn.Module) -> None:
    """Lets what the layers remember decide on tokens: small random weights hardly do."""
    if "layers." in path:
        weights = {name: w for name, w in module.items() if isinstance(w, mx.array)}
        module.update({name: 2 * w for name, w in weights.items() if w.ndim >= 2})


class TinyEngine:
    """A core with a warm tier on a tiny model, and what the model alone would answer."""

    def __init__(self, folder: Path, name: str, **changes: int) -> None:
        model = make_tiny_model(name, **changes)
        model.apply_to_modules(_strengthen)
        ragged.install()
        self._folder = folder
        self._runner = ModelRunner(model)
        self.disk_core = self._started()

    def _started(self) -> DiskCore:
        return DiskCore(self._folder, runner=cast(CountingRunner, self._runner))

    def restart(self, *agents: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        for agent in agents:
            self.disk_core.await_saved(agent)
        self.disk_core.close()
        meanwhile()
        self.disk_core = self._started()

    def ask(self, **prompts: Sequence[int]) -> list[Turn]:
        """A turn of each agent, at once, with the shared part marked."""
        parts = (PromptPart("system", 0), PromptPart("message 1 (user)", NUM_SHARED))
        core = self.disk_core.core
        turns = [
            submit(core, agent, list(prompt), NUM_GENERATED, parts=parts)
            for agent, prompt in prompts.items()
        ]
        self.disk_core.run()
        check_pool(core)
        for turn in turns:
            assert turn.finish_reason is FinishReason.MAX_TOKENS
            assert turn.token_ids == self.alone(turn.prompt)
        return turns

    def alone(self, prompt: Sequence[int]) -> list[int]:
        caches = self._runner.new_cache()
        self._runner.prefill(caches, prompt[:-1])
        tokens = list(prompt)
        sampler = Sampler(SamplingParams())
        while len(tokens) < len(prompt) + NUM_GENERATED:
            [token] = self._runner.decode([DecodeRow(caches, tokens, sampler)])
            assert isinstance(token, int)
            tokens.append(token)
        return tokens[len(prompt) :]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_agents_share_return_and_outlive_a_restart(
    name: str, changes: dict[str, int], tmp_path: Path
) -> None:
    engine = TinyEngine(tmp_path, name, **changes)
    shared = numbers(NUM_SHARED, 1)
    prompts = {
        "a": [*shared, *numbers(40, 2)],
        "b": [*shared, *numbers(212, 3)],
        "c": [*shared, *numbers(420, 4)],
    }
    [first] = engine.ask(a=prompts["a"])
    assert first.num_cached_tokens == 0

    others = engine.ask(b=prompts["b"], c=prompts["c"])

    # Windows and states are resumed at the checkpoint there, plain rows after the last full block.
    num_found = NUM_SHARED if name in NEED_CHECKPOINTS else BLOCK_TOKENS
    assert [turn.num_cached_tokens for turn in others] == [num_found, num_found]

    # Few tokens follow, so a state that came back wrong has no time to be forgotten.
    again = {
        turn_of: [*prompts[turn_of], *turn.token_ids, *numbers(1, 5)]
        for turn_of, turn in zip("abc", [first, *others], strict=True)
    }
    for agent, turn in zip("abc", engine.ask(**again), strict=True):
        num_known = len(prompts[agent]) + NUM_GENERATED - 1
        assert turn.num_cached_tokens == num_known
        again[agent] += [*turn.token_ids, *numbers(1, 6)]

    engine.restart("a", "b", "c")
    for turn in engine.ask(**again):
        num_known = len(turn.prompt) - 2
        assert turn.num_cached_tokens == num_known
    engine.disk_core.close()
