"""The real model under constraints and biases, beside turns that have none."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.constraint import Constraint
from engine.engine import Engine
from engine.messages import ToolChoice, ToolSpec, ToolUse
from engine.pieces import CallArguments, CallStart, Piece
from engine.request import FinishReason
from tests.engine.real_engine import Answer, RunningTurn, ask, ask_together, running_engine
from tests.models.json_fit import fits

BOOKING = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "class": {"enum": ["first", "second"]},
        "nights": {"type": "integer", "minimum": 1, "maximum": 30},
        "guests": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["city", "class", "nights", "guests"],
    "additionalProperties": False,
}
BOOK = ToolSpec(name="book", description="Books a room", parameters_json=json.dumps(BOOKING))
QUESTIONS = {"colours": "Name three colours.", "animals": "List four animals."}


@pytest.fixture(scope="module")
def engine(bundled_models_dir: Path) -> Iterator[Engine]:
    with running_engine(bundled_models_dir) as engine:
        yield engine


def constrain(engine: Engine, use: ToolUse, schema: object = None) -> Constraint:
    chat = engine.chat_format
    assert chat is not None
    tools = [] if schema else [BOOK]
    constraint = chat.constrain(
        tools, ToolChoice(use=use, is_parallel=False), json.dumps(schema) if schema else None
    )
    assert constraint is not None
    return constraint


def test_a_required_call_is_valid_and_its_neighbours_answer_as_alone(engine: Engine) -> None:
    alone = {name: ask(engine, f"alone-{name}", text) for name, text in QUESTIONS.items()}
    bound = constrain(engine, ToolUse.REQUIRED)
    turns = {
        f"booker-{temperature}-{number}": RunningTurn(
            engine,
            f"booker-{temperature}-{number}",
            "Book a room in Oslo, please.",
            tools=[BOOK],
            constraint=bound,
            temperature=temperature,
            seed=number,
            max_tokens=200,
        )
        for temperature in (0.0, 1.0)
        for number in range(2)
    }
    free = {name: RunningTurn(engine, name, text) for name, text in QUESTIONS.items()}
    for name, turn in free.items():
        assert turn.answer().token_ids == alone[name].token_ids
    answers = {name: turn.answer() for name, turn in turns.items()}
    for answer in answers.values():
        assert answer.last.finish_reason is FinishReason.END_TURN, answer.text
        start, arguments, _ = _pieces(engine, answer)
        assert isinstance(start, CallStart)
        assert start.name == "book"
        assert isinstance(arguments, CallArguments)
        assert fits(json.loads(arguments.json_text), BOOKING), answer.text
    assert answers["booker-0.0-0"].token_ids == answers["booker-0.0-1"].token_ids


def _pieces(engine: Engine, answer: Answer) -> list[Piece]:
    chat = engine.chat_format
    assert chat is not None
    reader = chat.reply_reader([BOOK], ToolChoice())
    return [*reader.feed(answer.text), *reader.finish()]


def test_where_calls_are_free_but_not_made_the_text_is_what_it_is_without(engine: Engine) -> None:
    question = "What is the capital of France?"
    free = ask(engine, "free", question, tools=[BOOK])
    bound = ask(engine, "bound", question, tools=[BOOK], constraint=constrain(engine, ToolUse.AUTO))
    assert "<tool_call>" not in free.text
    assert bound.token_ids == free.token_ids


@pytest.mark.slow
def test_a_preempted_turn_under_a_constraint_resumes_to_the_same_tokens(
    bundled_models_dir: Path, engine: Engine
) -> None:
    names = {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 40}
    constraint = constrain(
        engine,
        ToolUse.AUTO,
        {"type": "object", "properties": {"names": names}} | {"required": ["names"]},
    )
    filler = "The quick brown fox jumps over the lazy dog near the river bank at noon. " * 12
    prompts = {f"lister-{n}": f"Story {n}. {filler} List the animals as JSON." for n in range(4)}
    options = {"constraint": constraint, "max_tokens": 64, "temperature": 0.7, "seed": 11}
    alone = {name: ask(engine, name, text, **options) for name, text in prompts.items()}
    budget = 5 * engine.snapshot.pool.block_bytes
    with running_engine(bundled_models_dir, kv_budget_bytes=budget) as small:
        together = ask_together(small, prompts, **options)
        time.sleep(0.2)
        assert "preempt" in {event.kind for event in small.snapshot.events}
    for name, answer in together.items():
        assert answer.text.lstrip().startswith("{")
        assert answer.token_ids == alone[name].token_ids


def test_a_bias_bans_and_forces_tokens_of_the_real_model(engine: Engine) -> None:
    chat = engine.chat_format
    assert chat is not None
    question = "What is the capital of France? Explain in two sentences."
    usual = ask(engine, None, question, max_tokens=8)
    banned = ask(engine, None, question, max_tokens=8, logit_bias=((usual.token_ids[0], -100.0),))
    assert banned.token_ids[0] != usual.token_ids[0]
    [fox] = chat.encode_text(" fox")
    forced = ask(engine, None, question, max_tokens=8, temperature=1.0, logit_bias=((fox, 100.0),))
    assert forced.text == " fox" * 8


def test_the_probabilities_of_a_greedy_answer_are_the_largest(engine: Engine) -> None:
    question = "What is the capital of France? Explain in two sentences."
    usual = ask(engine, None, question, max_tokens=12)
    told = ask(engine, None, question, max_tokens=12, num_logprobs=5)
    assert told.token_ids == usual.token_ids
    assert [each.token_id for each in told.logprobs] == told.token_ids
    assert b"".join(each.token for each in told.logprobs).decode() == told.text
    for each in told.logprobs:
        assert [top.logprob for top in each.top] == sorted(
            (top.logprob for top in each.top), reverse=True
        )
        assert (each.top[0].token_id, each.top[0].logprob) == (each.token_id, each.logprob)
        assert 0 < sum(math.exp(top.logprob) for top in each.top) <= 1 + 1e-9
    assert _is_sure(told)


def _is_sure(answer: Answer) -> bool:
    """Whether the model was nearly certain of some token and in doubt about another."""
    logprobs = [each.logprob for each in answer.logprobs]
    return max(logprobs) > math.log(0.9) and min(logprobs) < math.log(0.9)
