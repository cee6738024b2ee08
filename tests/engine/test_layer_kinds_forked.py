"""Every kind of layer, evicted, read back, and forked at a turn: the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from engine.request import FinishReason, PromptPart, SamplingParams
from engine.runtime import ragged
from engine.runtime.runner import DecodeRow, ModelRunner
from engine.runtime.sampling import Sampler
from engine.scheduler import SchedulerLimits
from tests.engine.counting_model import CountingRunner
from tests.engine.disk_core import DiskCore
from tests.engine.turns import Turn, check_pool, submit
from tests.runtime.tiny_models import WINDOWED, make_tiny_model

ARCHITECTURES = (
    *("llama", "qwen3", "gemma3_text", "gpt_oss"),
    *("deepseek_v2", "qwen3_next", "mamba2"),
)
NUM_TOKENS = 12
SYSTEM_TOKENS = 300
PARTS = (PromptPart("system", 0), PromptPart("message 1 (user)", SYSTEM_TOKENS))


@cache
def runner_of(architecture: str) -> ModelRunner:
    # A window that is longer than a block and shorter than the prompts.
    changes = {"sliding_window": 300} if architecture in WINDOWED else {}
    model = make_tiny_model(architecture, **changes)
    ragged.install()
    return ModelRunner(model)


def words(seed: int, num_tokens: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 100, num_tokens)]


def alone(runner: ModelRunner, prompt: Sequence[int]) -> list[int]:
    """What the model says to a prompt with nothing reused and nobody beside it."""
    caches = runner.new_cache()
    runner.prefill(caches, prompt[:-1])
    tokens = list(prompt)
    sampler = Sampler(SamplingParams())
    for _ in range(NUM_TOKENS):
        (token,) = runner.decode([DecodeRow(caches, tokens, sampler)])
        assert isinstance(token, int)
        tokens.append(token)
    return tokens[len(prompt) :]


class Served:
    """A tiny model in an engine with a disk, asked and compared with the model alone."""

    def __init__(self, architecture: str, folder: Path) -> None:
        self.runner = runner_of(architecture)
        self.disk = DiskCore(
            folder,
            num_blocks=400,
            limits=SchedulerLimits(max_slice_tokens=130),
            runner=cast(CountingRunner, self.runner),
        )

    def submit(self, agent: str, prompt: list[int]) -> Turn:
        return submit(self.disk.core, agent, prompt, NUM_TOKENS, parts=PARTS)

    def finish(self, *turns: Turn) -> None:
        self.disk.run()
        check_pool(self.disk.core)
        for turn in turns:
            assert turn.finish_reason is FinishReason.MAX_TOKENS
            assert turn.token_ids == alone(self.runner, turn.prompt)

    def ask(self, agent: str, prompt: list[int]) -> Turn:
        turn = self.submit(agent, prompt)
        self.finish(turn)
        return turn

    def empty_memory(self) -> None:
        for agent in list(self.disk.core.agents):
            self.disk.await_saved(agent.agent_id)
            self.disk.core.agents.evict(agent)
        self.disk.core.pool.drop_cached(list(self.disk.core.pool))
        assert self.disk.core.pool.num_referenced_blocks == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_turn_goes_on_from_wherever_another_ended(architecture: str, tmp_path: Path) -> None:
    served = Served(architecture, tmp_path)
    first = served.ask("a", [*words(1, SYSTEM_TOKENS), *words(2, 330)])
    context = [*first.prompt, *first.token_ids]
    second = served.ask("a", [*context, *words(4, 200)])
    second_context = [*second.prompt, *second.token_ids]

    # Few new tokens: random states are soon forgotten.
    # From the disk, with nothing of it in memory; while others, old and new, run too.
    served.empty_memory()
    turns = [
        served.submit("a", [*second_context, *words(5, 2)]),
        served.submit("b", [*words(1, SYSTEM_TOKENS), *words(6, 300)]),
        served.submit("c", words(8, 20)),
    ]
    served.finish(*turns)
    assert turns[0].num_cached_tokens == len(second_context) - 1

    # From the end of the first turn, in memory and after a restart.
    agents = served.disk.core.agents
    agents.fork(agents.get("a"), "hot", 1)
    hot = served.ask("hot", [*context, *words(11, 2)])
    # Where a cache may be cut anywhere, the block that follows may begin with more.
    assert hot.num_cached_tokens - (len(context) - 1) in (0, 1)
    served.disk.close()
    again = Served(architecture, tmp_path)
    agents = again.disk.core.agents
    agents.fork(agents.get("a"), "warm", 1)
    warm = again.ask("warm", [*context, *words(12, 2)])
    num_tokens = len(context) - 1
    is_whole = again.runner.spec.needs_checkpoints
    assert warm.num_cached_tokens == (num_tokens if is_whole else num_tokens // 256 * 256)
    again.disk.close()
