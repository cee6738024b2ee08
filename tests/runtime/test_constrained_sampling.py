"""Choosing tokens under constraints and biases, and telling how likely they were."""

from __future__ import annotations

from collections import Counter

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.constraint import Constraint
from engine.errors import ConstraintFailedError, InvalidRequestError
from engine.request import Request, SamplingParams
from engine.runtime.logprobs import LogprobReader
from engine.runtime.sampling import Sampler, make_sampler
from tests.runtime.allowing import Allowing

# Probabilities 0.5, 0.3, 0.15, 0.05 at temperature 1.
LOGITS: NDArray[np.float32] = np.log(np.array([0.15, 0.5, 0.05, 0.3], dtype=np.float32))
DRAWN = SamplingParams(temperature=1.0, seed=1)


def only(*token_ids: int) -> Allowing:
    return Allowing(frozenset(token_ids))


def draw(params: SamplingParams, *allowed: int) -> Counter[int]:
    sampler = Sampler(params, matcher=only(*allowed))
    return Counter(sampler.choose(LOGITS, []) for _ in range(2000))


def test_the_best_of_what_is_allowed_is_taken_and_what_is_best_of_all_without_a_look() -> None:
    sampler = Sampler(SamplingParams(), matcher=only(0, 2, 3))
    assert not sampler.takes(1)
    assert sampler.choose(LOGITS, []) == 3
    assert Sampler(SamplingParams(), matcher=only(1, 2)).takes(1)


def test_draws_follow_the_probabilities_among_what_is_allowed() -> None:
    counts = draw(DRAWN, 0, 3)
    assert set(counts) == {0, 3}
    assert counts[3] / 2000 == pytest.approx(0.3 / 0.45, abs=0.03)


@pytest.mark.parametrize(
    ("params", "drawn"),
    [
        (SamplingParams(temperature=1, seed=1, top_k=1), {3}),
        (SamplingParams(temperature=1, seed=1, top_p=0.5), {3}),
        (SamplingParams(temperature=1, seed=1, min_p=0.4), {3, 0}),
        (SamplingParams(temperature=1, seed=1, top_k=100), {3, 0, 2}),
    ],
)
def test_filters_look_at_what_is_allowed(params: SamplingParams, drawn: set[int]) -> None:
    assert set(draw(params, 0, 2, 3)) == drawn


def test_a_constraint_that_lets_all_pass_changes_no_draw() -> None:
    free = Sampler(DRAWN)
    assert draw(DRAWN, 0, 1, 2, 3) == Counter(free.choose(LOGITS, []) for _ in range(2000))


def test_logits_beyond_the_tokenizers_tokens_are_never_chosen() -> None:
    logits = np.array([0.0, 1.0] + [9.0] * 30, dtype=np.float32)
    assert Sampler(SamplingParams(), matcher=only(0, 1)).choose(logits, []) == 1


def test_where_nothing_may_follow_it_says_so() -> None:
    with pytest.raises(ConstraintFailedError, match="no token"):
        Sampler(SamplingParams(), matcher=only()).choose(LOGITS, [])


def test_the_matcher_takes_what_was_generated_and_knows_the_end() -> None:
    matcher = Allowing(frozenset({1}), num_at_most=2)
    sampler = Sampler(SamplingParams(), matcher=matcher)
    for _ in range(2):
        assert not sampler.is_over
        sampler.observe(1)
    assert sampler.is_over
    assert not Sampler(SamplingParams()).is_over


def test_penalties_and_biases_hold_under_a_constraint() -> None:
    sampler = Sampler(SamplingParams(presence_penalty=2.0), matcher=only(0, 3))
    sampler.observe(3)
    assert sampler.choose(LOGITS, [3]) == 0
    biased = SamplingParams(logit_bias=((1, 100.0), (2, 50.0)))
    assert Sampler(biased, matcher=only(0, 2, 3)).choose(LOGITS, []) == 2


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_forces_and_bans(temperature: float) -> None:
    forced = SamplingParams(temperature=temperature, seed=1, logit_bias=((2, 100.0),))
    banned = SamplingParams(
        temperature=temperature, seed=1, logit_bias=((1, -100.0), (3, -100.0), (0, -100.0))
    )
    for params in (forced, banned):
        sampler = Sampler(params)
        assert not sampler.takes(1)
        assert {sampler.choose(LOGITS, []) for _ in range(200)} == {2}


def test_a_small_bias_shifts_the_odds_and_leaves_the_callers_logits_alone() -> None:
    logits = LOGITS.copy()
    sampler = Sampler(SamplingParams(temperature=1, seed=1, logit_bias=((0, float(np.log(2.0))),)))
    counts = Counter(sampler.choose(logits, []) for _ in range(4000))
    assert counts[0] / 4000 == pytest.approx(0.3 / 1.15, abs=0.03)
    assert (logits == LOGITS).all()


class _Words:
    vocabulary_size = 4

    def spell_token(self, token_id: int) -> bytes:
        return f"<{token_id}>".encode()


def _request(params: SamplingParams, constraint: Constraint | None = None) -> Request:
    return Request(
        request_id="r",
        agent_id=None,
        prompt_token_ids=(1,),
        sampling=params,
        constraint=constraint,
    )


@pytest.mark.parametrize("token_id", [4, -1, 1 << 40])
def test_a_bias_on_a_token_that_there_is_not_is_refused(token_id: int) -> None:
    params = SamplingParams(logit_bias=((1, 1.0), (token_id, 1.0)))
    with pytest.raises(InvalidRequestError, match=f"token {token_id}, .* 0 to 3"):
        make_sampler(_request(params), _Words())


def test_every_turn_has_a_matcher_of_its_own() -> None:
    constraint = Constraint("g", matcher=Allowing(frozenset({1}), num_at_most=1))
    first = make_sampler(_request(SamplingParams(), constraint), _Words())
    first.observe(1)
    assert first.is_over
    assert not make_sampler(_request(SamplingParams(), constraint), _Words()).is_over


@pytest.mark.parametrize(
    "field",
    [
        {"logit_bias": ((1, 101.0),)},
        {"logit_bias": ((1, float("nan")),)},
        {"logit_bias": tuple((number, 1.0) for number in range(2000))},
        {"num_logprobs": 21},
        {"num_logprobs": -1},
    ],
)
def test_values_out_of_range_are_refused_by_name(field: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(field))):
        SamplingParams(**field)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_top", [0, 1, 3, 20])
def test_logprobs_are_the_log_softmax_of_what_the_model_gave(num_top: int) -> None:
    logits = np.random.default_rng(5).normal(0, 8, 500).astype(np.float32)
    expected = np.array(mx.array(logits) - mx.logsumexp(mx.array(logits)))
    # Neither a bias, nor a penalty, nor a temperature, nor a constraint changes them.
    params = SamplingParams(temperature=2.0, seed=3, logit_bias=((7, 100.0),), presence_penalty=1.0)
    sampler = Sampler(
        params,
        matcher=only(7, 8),
        reader=LogprobReader(num_top, _Words().spell_token),
    )
    assert sampler.choose(logits, [7]) == 7
    told = sampler.logprob
    assert told is not None
    assert (told.token_id, told.token, told.text) == (7, b"<7>", "<7>")
    assert told.logprob == pytest.approx(expected[7], abs=1e-4)
    best = np.argsort(-expected, kind="stable")[:num_top]
    assert [each.token_id for each in told.top] == list(best)
    assert [each.logprob for each in told.top] == pytest.approx(list(expected[best]), abs=1e-4)
    assert all(each.top == () for each in told.top)


def test_all_probabilities_are_one_in_all() -> None:
    sampler = Sampler(SamplingParams(), reader=LogprobReader(20, _Words().spell_token))
    assert not sampler.takes(1)
    assert sampler.choose(LOGITS, []) == 1
    assert sampler.logprob is not None
    assert sum(np.exp(each.logprob) for each in sampler.logprob.top) == pytest.approx(1.0)
