"""Greedy output of the real model with keys and values in 4 bits, whatever became of its cache."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.cache.quantisation import KVQuantisation
from tests.engine.real_engine import (
    Answer,
    ask,
    ask_together,
    await_saved,
    evict,
    running_engine,
)

FORMAT = KVQuantisation(4, 64)
FILLER = "The quick brown fox jumps over the lazy dog near the river bank at noon. "
QUESTIONS = {
    f"agent-{number}": f"This is text {number % 3}. " + FILLER * length + f"Write line {number}."
    for number, length in enumerate((1, 70, 3, 40, 18, 2, 33))
}
"""Seven prompts of 40 to 1200 tokens; every third begins alike."""
SIXTEEN_BIT_BLOCK_BYTES = 256 * 30 * 3 * 64 * 2 * 2
"""Tokens, layers, KV heads, width, keys and values, bytes of a number."""


@pytest.fixture(scope="module")
def alone(bundled_models_dir: Path) -> dict[str, list[int]]:
    """Each question answered alone, without anything in the cache."""
    answers = {}
    with running_engine(bundled_models_dir, quantisation=FORMAT) as engine:
        for name, prompt in QUESTIONS.items():
            answer = ask(engine, "alone", prompt)
            assert answer.num_cached_tokens == 0
            answers[name] = answer.token_ids
            evict(engine, "alone")
    return answers


def tokens(answers: dict[str, Answer]) -> dict[str, list[int]]:
    return {name: answer.token_ids for name, answer in answers.items()}


def test_hot_warm_and_restarted_caches_say_what_a_computed_one_does(
    bundled_models_dir: Path, tmp_path: Path, alone: dict[str, list[int]]
) -> None:
    with running_engine(bundled_models_dir, tmp_path, quantisation=FORMAT) as engine:
        assert tokens(ask_together(engine, QUESTIONS)) == alone
        hot = ask_together(engine, QUESTIONS)
        await_saved(engine)
        for name in QUESTIONS:
            evict(engine, name)
        warm = ask_together(engine, QUESTIONS)
        await_saved(engine)
    with running_engine(bundled_models_dir, tmp_path, quantisation=FORMAT) as engine:
        restarted = ask_together(engine, QUESTIONS)
    for answers in (hot, warm, restarted):
        assert tokens(answers) == alone
        for answer in answers.values():
            assert answer.num_cached_tokens == answer.last.usage.num_prompt_tokens - 1


@pytest.mark.slow
def test_caches_of_another_format_are_left_alone(
    bundled_models_dir: Path, tmp_path: Path, alone: dict[str, list[int]]
) -> None:
    with running_engine(bundled_models_dir, tmp_path) as lossless:
        ask(lossless, "agent-1", QUESTIONS["agent-1"])
        await_saved(lossless)
    with running_engine(bundled_models_dir, tmp_path, quantisation=FORMAT) as engine:
        answer = ask(engine, "agent-1", QUESTIONS["agent-1"])

    assert answer.num_cached_tokens == 0
    assert answer.token_ids == alone["agent-1"]


@pytest.mark.slow
def test_a_budget_holds_three_and_a_half_times_as_much_as_in_16_bits(
    bundled_models_dir: Path,
) -> None:
    budget_bytes = 6 * SIXTEEN_BIT_BLOCK_BYTES
    with running_engine(bundled_models_dir, None, budget_bytes, FORMAT) as engine:
        # A context takes 3 blocks and as many while it runs: 16 bits would have room for one.
        prompts = {f"long-{n}": f"Number {n}. " + QUESTIONS["agent-3"] for n in range(3)}
        for name, prompt in prompts.items():
            ask(engine, name, prompt, max_tokens=2)
        again = [ask(engine, name, prompt, max_tokens=2) for name, prompt in prompts.items()]
        assert engine.snapshot.pool.num_total_blocks >= 3.5 * 6
        assert engine.snapshot.pool.num_evictions == 0
    for answer in again:
        assert answer.num_cached_tokens == answer.last.usage.num_prompt_tokens - 1


def test_what_was_chosen_is_shown(bundled_models_dir: Path) -> None:
    with running_engine(bundled_models_dir, quantisation=FORMAT) as engine:
        time.sleep(0.2)
        snapshot = engine.snapshot
    assert snapshot.model_detail is not None
    assert snapshot.model_detail.kv_format == "4 bit, group 64"
    assert snapshot.model_detail.kv_bytes_per_token == 6480
    texts = [event.text for event in snapshot.events]
    assert any(text.startswith("KV 4 bit, group 64, ") for text in texts)
    assert not any("stays lossless" in text for text in texts)
