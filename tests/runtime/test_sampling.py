"""Choosing tokens: greedy, filters, penalties, seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import InvalidRequestError
from engine.request import SamplingParams
from engine.runtime.sampling import Sampler

# Probabilities 0.5, 0.3, 0.15, 0.05 at temperature 1.
LOGITS: NDArray[np.float32] = np.log(np.array([0.15, 0.5, 0.05, 0.3], dtype=np.float32))


def draw(params: SamplingParams, num_draws: int = 4000) -> Counter[int]:
    sampler = Sampler(params)
    return Counter(sampler.choose(LOGITS, []) for _ in range(num_draws))


def test_temperature_zero_takes_the_largest() -> None:
    assert draw(SamplingParams(), 10) == {1: 10}


def test_draws_follow_the_probabilities() -> None:
    counts = draw(SamplingParams(temperature=1.0, seed=1))
    shares = [counts[token] / 4000 for token in range(4)]
    assert shares == pytest.approx([0.15, 0.5, 0.05, 0.3], abs=0.03)


def test_a_low_temperature_sharpens() -> None:
    counts = draw(SamplingParams(temperature=0.5, seed=1))
    squared = np.array([0.15, 0.5, 0.05, 0.3]) ** 2
    expected = squared / squared.sum()
    assert [counts[t] / 4000 for t in range(4)] == pytest.approx(list(expected), abs=0.03)


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(temperature=1, seed=1, top_k=2), {1, 3}),
        (SamplingParams(temperature=1, seed=1, top_k=100), {0, 1, 2, 3}),
        (SamplingParams(temperature=1, seed=1, top_p=0.5), {1}),
        (SamplingParams(temperature=1, seed=1, top_p=0.51), {1, 3}),
        (SamplingParams(temperature=1, seed=1, top_p=0.0), {1}),
        (SamplingParams(temperature=1, seed=1, min_p=0.25), {0, 1, 3}),
        (SamplingParams(temperature=1, seed=1, min_p=1.0), {1}),
        (SamplingParams(temperature=1, seed=1, top_k=3, top_p=0.6), {1, 3}),
    ],
)
def test_filters_leave_only_what_they_should(params: SamplingParams, allowed: set[int]) -> None:
    assert set(draw(params)) == allowed


def test_a_seed_repeats_and_another_does_not() -> None:
    def run(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=1, seed=seed))
        return [sampler.choose(LOGITS, []) for _ in range(50)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert run(None) != run(None)


def test_the_repetition_penalty_pushes_recent_tokens_down_whatever_their_sign() -> None:
    logits = np.array([2.0, 1.9, -1.0, -1.1], dtype=np.float32)
    sampler = Sampler(SamplingParams(repetition_penalty=1.5))
    assert sampler.choose(logits, [0]) == 1
    negative = np.array([-1.0, -1.1, -9.0], dtype=np.float32)
    assert sampler.choose(negative, [0]) == 1
    assert sampler.choose(negative, []) == 0


def test_the_repetition_penalty_forgets_what_is_far_back() -> None:
    logits = np.array([2.0, 1.9], dtype=np.float32)
    sampler = Sampler(SamplingParams(repetition_penalty=1.5, repetition_context=2))
    assert sampler.choose(logits, [0, 1, 1]) == 0
    assert sampler.choose(logits, [1, 0, 0]) == 1


def test_presence_counts_once_and_frequency_each_time() -> None:
    logits = np.array([2.0, 1.0], dtype=np.float32)
    presence = Sampler(SamplingParams(presence_penalty=0.9))
    frequency = Sampler(SamplingParams(frequency_penalty=0.6))
    for sampler in (presence, frequency):
        sampler.observe(0)
        sampler.observe(0)
    assert presence.choose(logits, [0, 0]) == 0
    assert frequency.choose(logits, [0, 0]) == 1
    assert Sampler(SamplingParams(frequency_penalty=0.6)).choose(logits, [0, 0]) == 0


def test_the_callers_logits_are_not_changed() -> None:
    logits = LOGITS.copy()
    sampler = Sampler(SamplingParams(temperature=1, seed=1, repetition_penalty=2, top_p=0.5))
    sampler.choose(logits, [1])
    assert (logits == LOGITS).all()


@pytest.mark.parametrize(
    "field",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"presence_penalty": 3.0},
        {"frequency_penalty": -3.0},
        {"max_tokens": -1},
        {"stop": ("",)},
        {"stop": tuple("abcdefghijklmnopq")},
    ],
)
def test_values_out_of_range_are_refused_by_name(field: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(field)).split("_")[0]):
        SamplingParams(**field)  # type: ignore[arg-type]
