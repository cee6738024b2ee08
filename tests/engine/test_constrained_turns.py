"""Turns under a constraint keep to it whatever happens, and end when it is complete."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from engine.constraint import Constraint
from engine.core import EngineCore
from engine.errors import ConstraintFailedError, EngineFailedError, InvalidRequestError
from engine.request import FinishReason
from engine.telemetry import Telemetry
from tests.engine.counting_model import END_TOKEN, NOT_FINITE, continuation, make_core
from tests.engine.sampling_model import NUM_TURNS, Rota, SamplingRunner
from tests.engine.turns import Turn, check, run, submit

EVERY_WAY = pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 1.0, "seed": 5}], ids=["greedy", "drawn"]
)


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def core_of(num_blocks: int = 64) -> tuple[EngineCore, Telemetry]:
    core, _, telemetry = make_core(num_blocks=num_blocks, runner=SamplingRunner())
    return core, telemetry


def rota(num_tokens: int = 1 << 30, *, is_open: bool = False, fails: bool = False) -> Constraint:
    return Constraint("rota", matcher=Rota(num_tokens, is_open, fails))


def keeps_to_the_rota(turn: Turn) -> bool:
    places = zip(turn.token_ids, itertools.cycle(range(NUM_TURNS)), strict=False)
    return all(token % NUM_TURNS == place for token, place in places)


def alone(tokens: list[int], max_tokens: int, **sampling: Any) -> list[int]:
    core, _ = core_of()
    turn = submit(core, "a", tokens, max_tokens, constraint=rota(), **sampling)
    run(core)
    return turn.token_ids


def test_a_turn_under_a_constraint_does_not_disturb_its_neighbours() -> None:
    core, _ = core_of()
    bound = submit(core, "bound", prompt(1, 40), 30, constraint=rota())
    free = [submit(core, f"free-{i}", prompt(i, 40), 30) for i in range(2, 5)]
    run(core)
    assert keeps_to_the_rota(bound)
    assert bound.token_ids == alone(prompt(1, 40), 30)
    assert bound.token_ids != continuation(prompt(1, 40), 30)
    for turn in free:
        assert turn.token_ids == continuation(turn.prompt, 30)
    check(core)


def test_a_grammar_that_is_complete_ends_the_turn_without_another_token() -> None:
    core, _ = core_of()
    turn = submit(core, "a", prompt(1, 40), 30, constraint=rota(9))
    run(core)
    assert turn.finish_reason is FinishReason.END_TURN
    assert len(turn.token_ids) == 9
    assert turn.deltas[-1].usage.num_generated_tokens == 9
    again = submit(core, "a", [*turn.prompt, *turn.token_ids, 3], 2)
    run(core)
    assert again.token_ids == continuation(again.prompt, 2)
    check(core)


def test_the_end_token_comes_only_where_the_grammar_allows_it() -> None:
    core, _ = core_of()
    bias = ((END_TOKEN, 100.0),)
    turn = submit(core, "a", prompt(1, 40), 30, constraint=rota(9, is_open=True), logit_bias=bias)
    run(core)
    assert turn.finish_reason is FinishReason.END_TURN
    assert len(turn.token_ids) == 9


def test_max_tokens_cuts_a_turn_that_is_not_complete() -> None:
    core, _ = core_of()
    turn = submit(core, "a", prompt(1, 40), 5, constraint=rota(9))
    run(core)
    assert turn.finish_reason is FinishReason.MAX_TOKENS
    assert len(turn.token_ids) == 5


@EVERY_WAY
def test_a_preempted_turn_resumes_to_the_same_tokens(sampling: dict[str, Any]) -> None:
    core, telemetry = core_of(num_blocks=7)
    turns = [
        submit(core, f"agent-{i}", prompt(i, 250), 600, constraint=rota(), **sampling)
        for i in range(3)
    ]
    run(core)
    assert any(event.kind == "preempt" for event in telemetry.events)
    for turn in turns:
        assert keeps_to_the_rota(turn)
        assert turn.token_ids == alone(list(turn.prompt), 600, **sampling)
    check(core)


@EVERY_WAY
def test_a_turn_that_is_computed_again_without_the_cache_goes_on_where_it_was(
    sampling: dict[str, Any],
) -> None:
    core, telemetry = core_of()
    submit(core, "a", prompt(1, 600), 2)
    run(core)
    tokens = [*prompt(1, 600), 5, 6, 7]
    turn = submit(core, "a", tokens, 20, constraint=rota(), **sampling)
    while len(turn.token_ids) < 8:
        core.step()
    [sequence] = core.scheduler.running
    sequence.caches[0] = NOT_FINITE
    run(core)
    assert any(event.kind == "poison" for event in telemetry.events)
    assert turn.token_ids == alone(tokens, 20, **sampling)


def test_a_matcher_that_fails_ends_its_turn_with_an_error_and_no_other() -> None:
    core, telemetry = core_of()
    failing = submit(core, "failing", prompt(1, 40), 30, constraint=rota(6, fails=True))
    other = submit(core, "other", prompt(2, 40), 30)
    run(core)
    assert failing.finish_reason is FinishReason.ERROR
    assert isinstance(failing.deltas[-1].error, ConstraintFailedError)
    assert len(failing.token_ids) == 6
    assert keeps_to_the_rota(failing)
    assert other.token_ids == continuation(other.prompt, 30)
    assert any("cannot be followed" in event.text for event in telemetry.events)
    check(core)


def test_what_cannot_be_kept_is_refused_before_anything_changes() -> None:
    core, _ = core_of()
    with pytest.raises(InvalidRequestError, match="token 1001"):
        submit(core, "a", prompt(1, 40), logit_bias=((1001, 1.0),))
    with pytest.raises(EngineFailedError, match="without a matcher"):
        submit(core, "a", prompt(1, 40), constraint=Constraint("never compiled"))
    assert not core.scheduler.has_work
    assert not list(core.agents)


def test_every_token_comes_with_its_probability_where_that_is_wanted() -> None:
    core, _ = core_of()
    told = submit(core, "told", prompt(1, 40), 12, num_logprobs=3)
    quiet = submit(core, "quiet", prompt(2, 40), 12)
    run(core)
    logprobs = [each for delta in told.deltas for each in delta.logprobs]
    assert told.token_ids == continuation(told.prompt, 12)
    assert [each.token_id for each in logprobs] == told.token_ids
    assert all(len(delta.logprobs) == len(delta.token_ids) for delta in told.deltas)
    for each in logprobs:
        assert each.top[0].token_id == each.token_id
        assert each.top[0].logprob == each.logprob
        assert len(each.top) == 3
        assert each.text == f"{each.token_id} "
    assert not any(delta.logprobs for delta in quiet.deltas)


def test_the_end_token_has_no_probability_to_show() -> None:
    core, _ = core_of()
    bias = ((END_TOKEN, 100.0),)
    turn = submit(core, "a", prompt(1, 40), 12, num_logprobs=0, logit_bias=bias)
    run(core)
    assert turn.finish_reason is FinishReason.END_TURN
    assert turn.token_ids == []
    assert not any(delta.logprobs for delta in turn.deltas)
