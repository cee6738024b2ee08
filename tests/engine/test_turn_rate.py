"""When those who are turned away are told to come back, and whether that is when there is room."""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from engine.turn_rate import MAX_PROMISE_S, MIN_PROMISE_S, TurnRate


def test_before_anything_ended_the_present_turn_is_the_measure() -> None:
    rate = TurnRate()
    assert rate.promise_s(5.0) == MIN_PROMISE_S
    rate.begin(10.0)
    assert TurnRate().promise_s(10.0) == MIN_PROMISE_S
    assert rate.promise_s(40.0) == pytest.approx(30.0)


def test_even_gaps_are_promised_as_they_are() -> None:
    rate = TurnRate()
    rate.begin(0.0)
    for number in range(1, 6):
        rate.end(number * 8.0, is_idle=False)
    assert rate.promise_s(40.0) == pytest.approx(8.0)


def test_turns_that_end_together_are_waited_for_together() -> None:
    rate = TurnRate()
    rate.begin(0.0)
    for round_s in (20.0, 40.0):
        for _ in range(4):
            rate.end(round_s, is_idle=False)
    assert rate.promise_s(41.0) == pytest.approx(20.0), "not a quarter of it"


def test_nothing_to_do_is_no_long_turn() -> None:
    rate = TurnRate()
    rate.begin(0.0)
    rate.end(2.0, is_idle=True)
    rate.begin(5000.0)
    rate.end(5002.0, is_idle=False)
    assert rate.promise_s(5002.0) == pytest.approx(2.0)


def test_two_who_are_turned_away_are_not_promised_one_place() -> None:
    rate = TurnRate()
    rate.begin(0.0)
    for number in range(1, 6):
        rate.end(number * 8.0, is_idle=False)
    assert [rate.promise_s(40.0) for _ in range(3)] == pytest.approx([8.0, 16.0, 24.0])


def test_promises_end_with_the_work() -> None:
    rate = TurnRate()
    rate.begin(0.0)
    rate.end(4.0, is_idle=False)
    for _ in range(20):
        rate.promise_s(4.0)
    rate.end(8.0, is_idle=True)
    rate.begin(9.0)
    assert rate.promise_s(9.0) == pytest.approx(4.0)


def test_a_promise_is_bounded() -> None:
    rate = TurnRate()
    rate.begin(0.0)
    assert rate.promise_s(1e6) == MAX_PROMISE_S


@dataclass(frozen=True)
class Promise:
    """What one was told who was turned away, and what then came.

    Attributes:
        promised_s: After how long to come back.
        real_s: After how long there was a place that nobody before was promised.
    """

    promised_s: float
    real_s: float


def full_house(turn_s: Callable[[], float], num_running: int) -> list[Promise]:
    """Turns run without a break, ``num_running`` at a time; some are turned away meanwhile."""
    chance = random.Random(7)
    rate = TurnRate()
    rate.begin(0.0)
    running = [turn_s() for _ in range(num_running)]
    heapq.heapify(running)
    ends: list[float] = []
    refusals: list[tuple[float, float, int]] = []
    mean_gap_s = 30.0 / num_running
    refused_at_s = 20 * mean_gap_s
    while len(refusals) < 300:
        if running[0] <= refused_at_s:
            ends.append(heapq.heappop(running))
            rate.end(ends[-1], is_idle=False)
            heapq.heappush(running, ends[-1] + turn_s())
        else:
            num_before = sum(at + promised > refused_at_s for at, promised, _ in refusals)
            refusals.append((refused_at_s, rate.promise_s(refused_at_s), len(ends) + num_before))
            # Half as often as places become free: those who come back find their turn.
            refused_at_s += chance.expovariate(0.5 / mean_gap_s)
    while len(ends) <= max(index for _, _, index in refusals):
        ends.append(heapq.heappop(running))
        heapq.heappush(running, ends[-1] + turn_s())
    return [Promise(promised, ends[index] - at) for at, promised, index in refusals]


@pytest.mark.parametrize("num_running", [1, 4, 16])
@pytest.mark.parametrize("shape", ["even", "random", "mixed"])
def test_there_is_a_place_when_one_was_promised(shape: str, num_running: int) -> None:
    chance = random.Random(3)
    lengths: dict[str, Callable[[], float]] = {
        "even": lambda: 30.0,
        "random": lambda: chance.expovariate(1 / 30.0),
        "mixed": lambda: 5.0 if chance.random() < 0.8 else 130.0,
    }
    promises = full_house(lengths[shape], num_running)
    share = statistics.mean(p.promised_s >= p.real_s for p in promises)
    real_s = statistics.mean(p.real_s for p in promises)
    excess = statistics.mean(p.promised_s for p in promises) / real_s
    assert share >= 0.5, "as often early as late"
    assert 0.85 <= excess <= 2.1, "and on the whole what it takes"
