"""Turns that cannot begin to answer in time are ended before they cost work, and no other is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from engine.commands import Generate
from engine.core import EngineCore
from engine.errors import DeadlineError
from engine.request import FinishReason, Request, SamplingParams
from engine.scheduler import CERTAIN_SHARE, Scheduler, SchedulerLimits
from engine.sequence import Sequence
from tests.engine.counting_model import Clock, CountingRunner, continuation, make_core
from tests.engine.test_scheduler import make
from tests.engine.turns import Turn, check, run, submit

S_PER_TOKEN = 0.01


class TimedRunner(CountingRunner):
    """Takes time for what it computes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def prefill(self, caches: list[int], token_ids: object) -> None:
        super().prefill(caches, token_ids)  # type: ignore[arg-type]
        self._clock.now_s += S_PER_TOKEN * len(token_ids)  # type: ignore[arg-type]


def timed_core(max_running: int = 32) -> tuple[EngineCore, TimedRunner, Clock]:
    clock = Clock()
    runner = TimedRunner(clock)
    limits = SchedulerLimits(max_running=max_running, max_slice_tokens=100)
    core, _, _ = make_core(runner=runner, clock=clock, limits=limits)
    submit(core, "first", prompt(0, 200))  # so that the rate is known
    run(core)
    runner.num_prefilled = 0
    return core, runner, clock


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def submit_within(core: EngineCore, agent: str, tokens: list[int], time_limit_s: float) -> Turn:
    turn = Turn(tuple(tokens), f"{agent}-within")
    request = Request(
        request_id=turn.request_id,
        agent_id=agent,
        prompt_token_ids=turn.prompt,
        sampling=SamplingParams(max_tokens=8),
        time_limit_s=time_limit_s,
    )
    core.submit(Generate(request=request, sink=turn.deltas.append))
    return turn


def is_late(turn: Turn) -> bool:
    return isinstance(turn.deltas[-1].error, DeadlineError)


def test_a_prompt_that_cannot_be_computed_in_time_is_not_begun() -> None:
    core, runner, _ = timed_core()
    turn = submit_within(core, "a", prompt(1, 1000), time_limit_s=5.0)
    run(core)
    assert is_late(turn)
    assert turn.finish_reason is FinishReason.ERROR
    assert "seconds are left for a prompt of 1000 tokens" in str(turn.deltas[-1].error)
    assert runner.num_prefilled == 0
    check(core)


def test_what_is_in_the_cache_takes_no_time() -> None:
    core, _, _ = timed_core()
    submit(core, "a", prompt(1, 1000))
    run(core)
    turn = submit_within(core, "a", prompt(1, 1000), time_limit_s=1.0)
    run(core)
    assert turn.token_ids == continuation(turn.prompt, 8)


def test_one_that_waits_too_long_is_ended_where_it_waits() -> None:
    core, runner, _ = timed_core(max_running=1)
    long = submit(core, "long", prompt(1, 2000))
    turn = submit_within(core, "a", prompt(2, 300), time_limit_s=10.0)
    run(core)
    assert is_late(turn)
    assert long.token_ids == continuation(long.prompt, 8)
    assert runner.num_prefilled == 1999
    check(core)


def test_what_was_computed_until_then_helps_the_next_attempt() -> None:
    core, runner, clock = timed_core()
    turn = submit_within(core, "a", prompt(1, 1000), time_limit_s=11.0)
    for _ in range(5):
        core.step()
    clock.now_s += 5.0  # somebody else had the machine
    run(core)
    assert is_late(turn)
    num_wasted = runner.num_prefilled
    again = submit_within(core, "a", prompt(1, 1000), time_limit_s=11.0)
    run(core)
    assert again.token_ids == continuation(again.prompt, 8)
    assert again.num_cached_tokens == num_wasted > 0


def test_a_turn_that_answers_already_is_not_ended_here() -> None:
    core, _, clock = timed_core()
    turn = submit_within(core, "a", prompt(1, 100), time_limit_s=5.0)
    while not turn.token_ids:
        core.step()
    clock.now_s += 100.0
    run(core)
    assert turn.token_ids == continuation(turn.prompt, 8)


def due(agent: str, num_tokens: int, arrival_s: float, limit_s: float) -> Sequence:
    sequence = make(agent, num_tokens, arrival_s)
    sequence.request = replace(sequence.request, time_limit_s=limit_s)
    return sequence


@given(
    st.lists(
        st.tuples(st.integers(1, 3000), st.integers(0, 20), st.floats(0.1, 40)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 4),
)
def test_each_begins_in_time_or_is_told_before_it_is_late(
    work: list[tuple[int, int, float]], max_running: int
) -> None:
    """Simulated time: nobody is late, and whoever is given up could not have made it alone."""
    scheduler = Scheduler(SchedulerLimits(max_running=max_running))
    scheduler.observe_prefill(1000, 1000 * S_PER_TOKEN)
    pending = [due(f"a{i}", size, float(at), limit) for i, (size, at, limit) in enumerate(work)]
    pending.sort(key=lambda s: s.arrival_s)
    now_s, slice_s = 0.0, 100 * S_PER_TOKEN
    num_over = 0
    while num_over < len(work):
        while pending and pending[0].arrival_s <= now_s:
            scheduler.add(pending.pop(0))
        for sequence in scheduler.hopeless(now_s, lambda s: s.num_computed_tokens):
            assert sequence.deadline_s is not None
            alone_s = sequence.num_remaining_tokens * S_PER_TOKEN
            assert now_s + alone_s >= sequence.deadline_s
            scheduler.remove(sequence)
            num_over += 1
        scheduler.admit(lambda _: True)
        chosen = scheduler.next_prefill(now_s)
        if chosen is None:
            if num_over < len(work) and not scheduler.has_work:
                now_s = pending[0].arrival_s
            continue
        # What is not given up has time for its next slice, if the estimate is as sure as it says.
        assert chosen.deadline_s is not None
        left_s = chosen.num_remaining_tokens * S_PER_TOKEN
        assert now_s + CERTAIN_SHARE * left_s < chosen.deadline_s
        num_tokens = min(100, chosen.num_remaining_tokens)
        chosen.num_computed_tokens += num_tokens
        now_s += num_tokens * S_PER_TOKEN
        if chosen.num_remaining_tokens == 0:
            assert now_s < chosen.deadline_s + slice_s
            scheduler.remove(chosen)
            num_over += 1
