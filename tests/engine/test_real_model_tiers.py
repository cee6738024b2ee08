"""Greedy output of the real model whatever became of its cache: disk, restart, fork, preemption."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.agent_commands import ForkAgent
from engine.commands import Shutdown
from engine.engine import Engine
from tests.engine.real_engine import (
    TIMEOUT_S,
    ask,
    ask_together,
    await_saved,
    evict,
    make_engine,
    running_engine,
)

FILLER = "The quick brown fox jumps over the lazy dog near the river bank at noon. "
QUESTIONS = {
    f"agent-{number}": f"This is text {number % 3}. " + FILLER * length + f"Write line {number}."
    for number, length in enumerate((1, 90, 3, 40, 18, 60, 2, 25, 33, 7))
}
"""Ten prompts of 40 to 1600 tokens; every third begins alike."""


@pytest.fixture(scope="module")
def plain(bundled_models_dir: Path) -> Iterator[Engine]:
    """An engine that keeps nothing on disk."""
    engine = make_engine(bundled_models_dir, bundled_models_dir / "cache")
    yield engine
    engine.send(Shutdown(drain_s=0.0))
    assert engine.join(TIMEOUT_S)


@pytest.fixture(scope="module")
def alone(plain: Engine) -> dict[str, list[int]]:
    """Each question answered alone, without anything in the cache."""
    return {name: answered_alone(plain, prompt) for name, prompt in QUESTIONS.items()}


def answered_alone(plain: Engine, prompt: str, **sampling: object) -> list[int]:
    answer = ask(plain, "alone", prompt, **sampling)
    assert answer.num_cached_tokens == 0
    evict(plain, "alone")
    return answer.token_ids


def test_ten_agents_of_mixed_length_hot_warm_and_after_a_restart(
    bundled_models_dir: Path, alone: dict[str, list[int]], tmp_path: Path
) -> None:
    with running_engine(bundled_models_dir, tmp_path) as engine:
        cold = ask_together(engine, QUESTIONS)
        assert {name: answer.token_ids for name, answer in cold.items()} == alone
        hot = ask_together(engine, QUESTIONS)
        assert {name: answer.token_ids for name, answer in hot.items()} == alone
        await_saved(engine)
        for name in QUESTIONS:
            evict(engine, name)
        warm = ask_together(engine, QUESTIONS)
        assert {name: answer.token_ids for name, answer in warm.items()} == alone
        await_saved(engine)
    with running_engine(bundled_models_dir, tmp_path) as engine:
        restarted = ask_together(engine, QUESTIONS)
        assert {name: answer.token_ids for name, answer in restarted.items()} == alone
    for answers in (hot, warm, restarted):
        for answer in answers.values():
            assert answer.num_cached_tokens == answer.last.usage.num_prompt_tokens - 1


def test_a_fork_says_what_its_parent_would(
    bundled_models_dir: Path, plain: Engine, alone: dict[str, list[int]], tmp_path: Path
) -> None:
    with running_engine(bundled_models_dir, tmp_path) as engine:
        ask(engine, "parent", QUESTIONS["agent-3"])
        command = ForkAgent(agent_id="parent", fork_id="child")
        engine.send(command)
        assert command.done.result(TIMEOUT_S) == "child"
        other = QUESTIONS["agent-3"] + " Be brief."
        child = ask(engine, "child", other)
        assert child.num_cached_tokens > child.last.usage.num_prompt_tokens - 32
        again = ask(engine, "parent", QUESTIONS["agent-3"])
        assert again.token_ids == alone["agent-3"]
    assert answered_alone(plain, other) == child.token_ids


@pytest.mark.slow
def test_in_a_small_pool_the_disk_takes_over_without_changing_a_token(
    bundled_models_dir: Path, plain: Engine, alone: dict[str, list[int]], tmp_path: Path
) -> None:
    budget_bytes = 9 * plain.snapshot.pool.block_bytes
    with running_engine(bundled_models_dir, tmp_path, budget_bytes) as engine:
        for _ in range(2):
            answers = ask_together(engine, QUESTIONS)
            assert {name: answer.token_ids for name, answer in answers.items()} == alone
        time.sleep(0.2)
        assert engine.snapshot.pool.num_total_blocks == 9
        assert engine.snapshot.pool.num_evictions > 0


@pytest.mark.slow
def test_preempted_in_the_middle_of_a_reply_it_goes_on_as_if_nothing_was(
    bundled_models_dir: Path, plain: Engine, tmp_path: Path
) -> None:
    # Each prompt fits one block, and each reply outgrows it: four blocks are too few for three.
    prompts = {
        f"grower-{number}": f"Story {number}. " + FILLER * 12 + "Go on." for number in range(3)
    }
    alone = {name: answered_alone(plain, prompt, max_tokens=48) for name, prompt in prompts.items()}
    with running_engine(
        bundled_models_dir, tmp_path, 4 * plain.snapshot.pool.block_bytes
    ) as engine:
        together = ask_together(engine, prompts, max_tokens=48)
        time.sleep(0.2)
        assert "preempt" in {event.kind for event in engine.snapshot.events}
    assert {name: answer.token_ids for name, answer in together.items()} == alone
