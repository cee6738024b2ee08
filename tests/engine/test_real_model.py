"""Greedy output of the real model: cached, shared, batched and beside aborted ones as alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.agent_commands import EvictAgent, PinAgent
from engine.commands import Shutdown, ToolsCalled
from engine.engine import Engine
from engine.errors import AgentBusyError, AgentNotFoundError, DrainingError
from engine.request import FinishReason
from tests.engine.real_engine import RunningTurn, ask, ask_together, is_ended, make_engine

FILLER = "The quick brown fox jumps over the lazy dog near the river bank at noon. "
STEM = "Here is a text. " + FILLER * 27
QUESTIONS = {
    "short": "Name three colours.",
    "capital": "What is the capital of France? Explain in two sentences.",
    "numbers": "Count from one to ten. " + "Use words. " * 20,
    "fox": STEM + "What does the fox do?",
    "dog": STEM + "Where is the dog?",
    "sea": "Write a sentence about the sea. " + FILLER * 12,
    "list": "List four animals.",
    "long": FILLER * 40 + "Summarise the text in one sentence.",
}


@pytest.fixture(scope="module")
def engine(bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = make_engine(bundled_models_dir, bundled_models_dir / "cache")
    yield engine
    engine.send(Shutdown(drain_s=0.0))
    assert engine.join(30)


@pytest.fixture(scope="module")
def alone(engine: Engine) -> dict[str, list[int]]:
    """Each question answered alone, without anything in the cache."""
    answers = {}
    for name, prompt in QUESTIONS.items():
        answer = ask(engine, f"alone-{name}", prompt)
        answers[name] = answer.token_ids
        evict(engine, f"alone-{name}")
        assert answer.num_cached_tokens == 0
    return answers


def evict(engine: Engine, agent_id: str) -> int:
    command = EvictAgent(agent_id=agent_id)
    engine.send(command)
    return command.done.result(30).freed_bytes


def test_it_knows_the_capital_of_france(engine: Engine) -> None:
    answer = ask(engine, "paris", QUESTIONS["capital"])
    assert "Paris" in answer.text
    assert is_ended(answer)


def test_eight_at_once_say_what_each_says_alone(
    engine: Engine, alone: dict[str, list[int]]
) -> None:
    together = ask_together(engine, {f"together-{n}": p for n, p in QUESTIONS.items()})
    assert {n: together[f"together-{n}"].token_ids for n in QUESTIONS} == alone
    for name in QUESTIONS:
        evict(engine, f"together-{name}")


def test_a_cached_prefix_gives_what_recomputing_gives(
    engine: Engine, alone: dict[str, list[int]]
) -> None:
    first = ask(engine, "cached", QUESTIONS["fox"])
    again = ask(engine, "cached", QUESTIONS["fox"])
    assert again.num_cached_tokens == again.last.usage.num_prompt_tokens - 1
    assert first.token_ids == again.token_ids == alone["fox"]


def test_a_prefix_shared_with_another_agent_gives_the_same(
    engine: Engine, alone: dict[str, list[int]]
) -> None:
    ask(engine, "owner", QUESTIONS["fox"])
    shared = ask(engine, "sharer", QUESTIONS["dog"])
    assert shared.num_cached_tokens >= 256
    assert shared.token_ids == alone["dog"]


def test_a_prefix_cut_inside_a_block_gives_the_same(
    engine: Engine, alone: dict[str, list[int]]
) -> None:
    ask(engine, "changer", QUESTIONS["fox"])
    changed = ask(engine, "changer", QUESTIONS["dog"])
    assert changed.num_cached_tokens % 256 != 0
    assert changed.token_ids == alone["dog"]


def test_aborting_one_leaves_the_others_unchanged(
    engine: Engine, alone: dict[str, list[int]]
) -> None:
    victim = RunningTurn(engine, "victim", QUESTIONS["long"], max_tokens=500)
    other = RunningTurn(engine, "other", QUESTIONS["sea"])
    while not victim.next_delta().token_ids:
        pass
    victim.abort()
    assert victim.answer().last.finish_reason is FinishReason.ABORTED
    assert other.answer().token_ids == alone["sea"]
    again = ask(engine, "victim", QUESTIONS["long"])
    assert again.token_ids == alone["long"]


def test_an_evicted_agent_answers_as_before(engine: Engine, alone: dict[str, list[int]]) -> None:
    ask(engine, "evicted", QUESTIONS["numbers"])
    assert evict(engine, "evicted") > 0
    again = ask(engine, "evicted", QUESTIONS["numbers"])
    assert again.num_cached_tokens == 0
    assert again.token_ids == alone["numbers"]


def test_a_seed_repeats_alone_and_in_a_batch(engine: Engine) -> None:
    sampling = {"temperature": 0.9, "top_p": 0.95, "seed": 11}
    single = ask(engine, "seeded", QUESTIONS["short"], **sampling)
    batch = ask_together(
        engine, {f"seeded-{n}": QUESTIONS[n] for n in ("short", "list", "numbers")}, **sampling
    )
    assert batch["seeded-short"].token_ids == single.token_ids
    other = ask(engine, "seeded", QUESTIONS["short"], temperature=0.9, top_p=0.95, seed=12)
    assert other.token_ids != single.token_ids


def test_a_stop_string_never_leaks_even_when_split_over_tokens(engine: Engine) -> None:
    whole = ask(engine, "stop", QUESTIONS["capital"]).text
    stop = whole[10:18]
    answer = ask(engine, "stop", QUESTIONS["capital"], stop=(stop,))
    assert answer.last.finish_reason is FinishReason.STOP_STRING
    assert answer.last.stop_string == stop
    assert answer.text == whole[: whole.index(stop)]


def test_max_tokens_is_exact(engine: Engine) -> None:
    answer = ask(engine, "short", QUESTIONS["long"], max_tokens=5)
    assert len(answer.token_ids) == 5
    assert answer.last.finish_reason is FinishReason.MAX_TOKENS


def test_actions_on_agents_answer_through_their_futures(engine: Engine) -> None:
    ask(engine, "pinned", QUESTIONS["short"])
    pin = PinAgent(agent_id="pinned", pinned=True)
    engine.send(pin)
    assert pin.done.result(30) is True
    unknown = EvictAgent(agent_id="nobody")
    engine.send(unknown)
    with pytest.raises(AgentNotFoundError):
        unknown.done.result(30)
    turn = RunningTurn(engine, "busy", QUESTIONS["long"], max_tokens=200)
    turn.next_delta()
    busy = EvictAgent(agent_id="busy")
    engine.send(busy)
    with pytest.raises(AgentBusyError):
        busy.done.result(30)
    turn.abort()
    turn.answer()


def test_the_snapshot_shows_agents_blocks_and_rates(engine: Engine) -> None:
    ask(engine, "seen", QUESTIONS["fox"])
    ask(engine, "seen-too", QUESTIONS["fox"])
    time.sleep(0.3)
    snapshot = engine.snapshot
    row = snapshot.agent("seen")
    assert row is not None
    assert row.status == "idle"
    engine.send(ToolsCalled(agent_id="seen", turn_number=row.num_turns))
    assert row.hot_bytes > row.shared_bytes > 0
    assert row.num_context_tokens > 256
    assert snapshot.pool.num_shared_blocks > 0
    assert len(snapshot.pool.block_states) == snapshot.pool.num_total_blocks
    assert snapshot.model == "SmolLM2-135M-Instruct"
    assert snapshot.model_detail is not None
    assert snapshot.model_detail.batching == "ragged"
    assert snapshot.throughput.decode_tok_s > 0
    assert snapshot.throughput.ttft_p50_s is not None
    time.sleep(0.3)
    waiting = engine.snapshot.agent("seen")
    assert waiting is not None
    assert waiting.status == "tool-wait"


def test_a_running_sequence_is_visible_while_it_runs(engine: Engine) -> None:
    turn = RunningTurn(engine, "live", QUESTIONS["long"], max_tokens=300)
    while not turn.next_delta().token_ids:
        pass
    time.sleep(0.3)
    snapshot = engine.snapshot
    row = snapshot.agent("live")
    assert row is not None
    assert row.status == "decoding"
    assert row.decode_tok_s > 0
    assert snapshot.batch.num_running == 1
    assert snapshot.pool.num_running_blocks > 0
    turn.abort()
    turn.answer()


def test_a_small_budget_evicts_and_preempts_without_changing_a_token(
    bundled_models_dir: Path, engine: Engine, alone: dict[str, list[int]]
) -> None:
    block_bytes = engine.snapshot.pool.block_bytes
    small = make_engine(bundled_models_dir, bundled_models_dir / "cache", 6 * block_bytes)
    try:
        answers = ask_together(small, QUESTIONS)
        assert {name: answer.token_ids for name, answer in answers.items()} == alone
        time.sleep(0.2)
        assert small.snapshot.pool.num_total_blocks == 6
        assert small.snapshot.pool.num_evictions > 0
    finally:
        small.send(Shutdown(drain_s=0.0))
        assert small.join(30)
    late = EvictAgent(agent_id="x")
    small.send(late)
    with pytest.raises(DrainingError):
        late.done.result(5)


def test_draining_finishes_running_turns_and_admits_none(
    bundled_models_dir: Path,
) -> None:
    engine = make_engine(bundled_models_dir, bundled_models_dir / "cache")
    turn = RunningTurn(engine, "last", QUESTIONS["short"], max_tokens=8)
    engine.send(Shutdown(drain_s=30.0))
    with pytest.raises(DrainingError):
        RunningTurn(engine, "late", QUESTIONS["short"])
    assert is_ended(turn.answer())
    assert engine.join(30)
    assert engine.snapshot.status == "stopped"
