"""Priorities and pauses: whose turns go ahead, whose wait, and that nobody starves."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import PauseAgent, SetBatchWindow, SetPriority
from engine.errors import AgentNotFoundError, InvalidRequestError
from engine.request import FinishReason
from engine.scheduler import Scheduler, SchedulerLimits
from engine.sequence import Sequence
from engine.turn_limits import HEAD_START_S, MAX_PRIORITY, MIN_PRIORITY
from tests.engine.counting_model import continuation, make_core
from tests.engine.test_core import assert_right, prompt
from tests.engine.test_scheduler import admit_all, make
from tests.engine.turns import check, run, submit

PRIORITIES = st.integers(MIN_PRIORITY, MAX_PRIORITY)
ARRIVALS = st.lists(st.tuples(PRIORITIES, st.integers(0, 300)), min_size=2, max_size=10)


def queued(work: list[tuple[int, int]], max_running: int = 1) -> tuple[Scheduler, list[Sequence]]:
    """A scheduler with a turn of each priority and arrival in its queue, in order of arrival."""
    scheduler = Scheduler(SchedulerLimits(max_running=max_running))
    turns = [make(f"a{i}", 10, float(at)) for i, (_, at) in enumerate(work)]
    for turn, (priority, _) in zip(turns, work, strict=True):
        turn.agent.priority = priority
    for turn in sorted(turns, key=lambda turn: turn.arrival_s):
        scheduler.add(turn)
    return scheduler, turns


def order_of_admission(scheduler: Scheduler) -> list[Sequence]:
    """Admits and ends one turn after the other."""
    order: list[Sequence] = []
    while admitted := admit_all(scheduler):
        order += admitted
        for sequence in admitted:
            scheduler.remove(sequence)
    return order


@given(ARRIVALS)
def test_priority_goes_ahead_by_its_head_start_and_no_further(work: list[tuple[int, int]]) -> None:
    scheduler, turns = queued(work)
    order = order_of_admission(scheduler)
    assert sorted(map(id, order)) == sorted(map(id, turns))
    for first, second in combinations(order, 2):
        ahead_s = second.arrival_s - first.arrival_s
        # Never overtaken by more than the steps of priority between the two allow.
        assert -ahead_s <= HEAD_START_S * (first.agent.priority - second.agent.priority)


@given(ARRIVALS)
def test_equal_priorities_are_first_come_first_served(work: list[tuple[int, int]]) -> None:
    scheduler, _ = queued(work)
    for first, second in combinations(order_of_admission(scheduler), 2):
        if first.agent.priority == second.agent.priority:
            assert first.arrival_s <= second.arrival_s


@given(st.lists(PRIORITIES, min_size=1, max_size=40))
def test_a_turn_of_low_priority_is_admitted_however_many_go_ahead(others: list[int]) -> None:
    scheduler = Scheduler(SchedulerLimits(max_running=1))
    low = make("low", 10, 0.0)
    low.agent.priority = MIN_PRIORITY
    scheduler.add(low)
    served_after_s: float | None = None
    for number in range(80):
        now_s = 5.0 * number
        turn = make(f"other{number}", 10, now_s)
        turn.agent.priority = others[number % len(others)]
        scheduler.add(turn)
        (admitted,) = admit_all(scheduler)
        scheduler.remove(admitted)
        if admitted is low:
            served_after_s = now_s
            break
    assert served_after_s is not None
    assert served_after_s <= HEAD_START_S * (MAX_PRIORITY - MIN_PRIORITY) + 5.0


@given(ARRIVALS, st.data())
def test_a_priority_that_changes_in_the_queue_counts_at_once(
    work: list[tuple[int, int]], data: st.DataObject
) -> None:
    scheduler, turns = queued(work)
    changed = data.draw(st.sampled_from(turns))
    changed.agent.priority = data.draw(PRIORITIES)
    scheduler.reorder()
    dues = [turn.due_s for turn in order_of_admission(scheduler)]
    assert dues == sorted(dues)


@given(ARRIVALS, st.data())
def test_paused_agents_wait_and_hold_up_nobody(
    work: list[tuple[int, int]], data: st.DataObject
) -> None:
    scheduler, turns = queued(work)
    paused = data.draw(st.lists(st.sampled_from(turns), unique_by=id))
    for turn in paused:
        turn.agent.paused = True
    order = order_of_admission(scheduler)
    assert {id(turn) for turn in order} == {id(turn) for turn in turns if turn not in paused}
    assert not scheduler.can_step
    assert not scheduler.has_work
    for turn in paused:
        turn.agent.paused = False
    resumed = order_of_admission(scheduler)
    assert {id(turn) for turn in resumed} == {id(turn) for turn in paused}
    assert [turn.due_s for turn in resumed] == sorted(turn.due_s for turn in resumed)


def test_the_turn_of_least_priority_is_preempted_first() -> None:
    scheduler, (low, high) = queued([(-1, 0), (1, 20)], max_running=2)
    admit_all(scheduler)
    assert scheduler.youngest_running() is low
    low.agent.priority = 1
    assert scheduler.youngest_running() is high


def test_a_turn_that_was_interrupted_comes_before_those_that_were_due_with_it() -> None:
    scheduler, (first, second) = queued([(0, 0), (0, 0)])
    admit_all(scheduler)
    scheduler.requeue(first)
    assert list(scheduler.waiting) == [first, second]


def test_priority_counts_among_prefills() -> None:
    scheduler = Scheduler(SchedulerLimits())
    scheduler.observe_prefill(100, 0.4)
    long, short = make("long", 1000), make("short", 50)
    for sequence in (long, short):
        scheduler.add(sequence)
    admit_all(scheduler)
    assert scheduler.next_prefill(1.0) is short
    long.agent.priority = 1
    assert scheduler.next_prefill(1.0) is long


@pytest.mark.parametrize("num_steps", [2, 8])
def test_a_paused_turn_stops_and_goes_on_where_it_was(num_steps: int) -> None:
    """Once in the middle of its prompt, once in the middle of its reply."""
    core, runner, telemetry = make_core(limits=SchedulerLimits(max_slice_tokens=256))
    turn = submit(core, "a", prompt(1, 700), max_tokens=20)
    other = submit(core, "b", prompt(2, 30), max_tokens=4)
    for _ in range(num_steps):
        core.step()
    pause = PauseAgent(agent_id="a", paused=True)
    core.actions.obey(pause)
    assert pause.done.result(0) is True
    num_before = len(turn.token_ids)
    check(core)
    run(core)
    assert_right(other, 4)
    assert len(turn.token_ids) == num_before
    assert turn.finish_reason is None
    (row,) = [row for row in core.publisher.draw(core.stepper.reading, 0.0)[1] if row.paused]
    assert (row.agent_id, row.status) == ("a", "queued")

    runner.num_prefilled = 0
    core.actions.obey(PauseAgent(agent_id="a", paused=False))
    run(core)
    assert_right(turn, 20)
    # Whole blocks that were computed before the pause are not computed again.
    assert runner.num_prefilled <= 700 - 256 + num_before
    assert [e.kind for e in telemetry.events if e.kind in ("pause", "resume")] == [
        "pause",
        "resume",
    ]
    check(core)


def test_an_agent_can_be_paused_before_its_turn_and_aborted_meanwhile() -> None:
    core, _, _ = make_core()
    submit(core, "a", prompt(1, 300))
    run(core)
    core.actions.obey(PauseAgent(agent_id="a", paused=True))
    turn = submit(core, "a", prompt(1, 400))
    run(core)
    assert turn.deltas == []
    core.abort(turn.request_id, "client went away")
    assert turn.finish_reason is FinishReason.ABORTED
    check(core)


def test_no_turn_fails_for_want_of_room_while_one_is_paused() -> None:
    core, _, _ = make_core(num_blocks=5)
    paused = submit(core, "a", prompt(1, 700))
    core.step()
    core.actions.obey(PauseAgent(agent_id="a", paused=True))
    other = submit(core, "b", prompt(2, 1000))
    run(core)
    assert_right(other)
    core.actions.obey(PauseAgent(agent_id="a", paused=False))
    run(core)
    assert_right(paused)
    check(core)


def test_an_agent_of_high_priority_goes_first() -> None:
    core, _, _ = make_core(limits=SchedulerLimits(max_running=1))
    running = submit(core, "running", prompt(1, 30))
    core.step()
    usual, urgent = submit(core, "usual", prompt(2, 30)), submit(core, "urgent", prompt(3, 30))
    command = SetPriority(agent_id="urgent", priority=MAX_PRIORITY)
    core.actions.obey(command)
    assert command.done.result(0) == MAX_PRIORITY
    while not urgent.finish_reason:
        core.step()
    assert running.finish_reason is FinishReason.MAX_TOKENS
    assert usual.deltas == []
    run(core)
    assert usual.token_ids == continuation(usual.prompt, 8)


def test_what_there_is_not_is_refused() -> None:
    core, _, _ = make_core()
    unknown = PauseAgent(agent_id="nobody", paused=True)
    core.actions.obey(unknown)
    with pytest.raises(AgentNotFoundError):
        unknown.done.result(0)
    submit(core, "a", prompt(1, 30))
    run(core)
    too_high = SetPriority(agent_id="a", priority=MAX_PRIORITY + 1)
    core.actions.obey(too_high)
    with pytest.raises(InvalidRequestError, match="must be -2 to 2"):
        too_high.done.result(0)
    for window_ms in (-1.0, float("nan"), 10_001.0):
        command = SetBatchWindow(window_ms=window_ms)
        core.actions.obey(command)
        with pytest.raises(InvalidRequestError):
            command.done.result(0)


def test_the_batch_window_changes_and_nothing_else_of_the_limits() -> None:
    limits = SchedulerLimits(max_waiting=7)
    core, _, _ = make_core(limits=limits)
    command = SetBatchWindow(window_ms=50)
    core.actions.obey(command)
    assert command.done.result(0) == 50
    assert core.scheduler.limits == dataclasses.replace(limits, batch_window_ms=50)


def test_agents_that_are_paused_or_have_a_priority_are_not_forgotten() -> None:
    core, _, _ = make_core()
    for name in "abc":
        submit(core, name, prompt(1, 30))
        run(core)
        core.actions.evict(name)
    core.actions.obey(PauseAgent(agent_id="a", paused=True))
    core.actions.obey(SetPriority(agent_id="b", priority=-1))
    core.agents._max_agents = 3
    submit(core, "d", prompt(2, 30))
    run(core)
    assert {agent.agent_id for agent in core.agents} == {"a", "b", "d"}
