"""Who runs next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cache.agent import Agent
from engine.errors import QueueFullError
from engine.output import Output
from engine.request import Request, SamplingParams
from engine.scheduler import Scheduler, SchedulerLimits
from engine.sequence import Sequence, SequenceStatus
from tests.engine.counting_model import NumberChat, make_core
from tests.engine.turns import submit


class NoStops:
    def feed(self, text: str) -> tuple[str, str | None]:
        return text, None

    def flush(self) -> str:
        return ""


def make(agent: str, num_tokens: int, arrival_s: float = 0.0) -> Sequence:
    sampling = SamplingParams()
    request = Request(
        request_id=f"{agent}-{arrival_s}",
        agent_id=agent,
        prompt_token_ids=(1,) * num_tokens,
        sampling=sampling,
    )
    return Sequence(
        request=request,
        sink=lambda _: None,
        agent=Agent(agent),
        arrival_s=arrival_s,
        output=Output(sampling, 10, frozenset(), NumberChat(), NoStops()),
        sampler=None,
        token_ids=[1] * num_tokens,
    )


def admit_all(scheduler: Scheduler) -> list[Sequence]:
    return scheduler.admit(lambda _: True)


def test_admission_is_first_come_first_served() -> None:
    scheduler = Scheduler(SchedulerLimits(max_running=2))
    sequences = [make(name, 10) for name in "abc"]
    for sequence in sequences:
        scheduler.add(sequence)
    assert admit_all(scheduler) == sequences[:2]
    assert list(scheduler.waiting) == sequences[2:]


def test_one_turn_of_an_agent_runs_at_a_time_and_order_is_kept() -> None:
    scheduler = Scheduler(SchedulerLimits())
    first, second, other = make("a", 10), make("a", 5, 1.0), make("b", 10, 2.0)
    for sequence in (first, second, other):
        scheduler.add(sequence)
    assert admit_all(scheduler) == [first, other]
    assert admit_all(scheduler) == []
    scheduler.remove(first)
    assert admit_all(scheduler) == [second]


def test_one_that_finds_no_room_is_not_overtaken() -> None:
    scheduler = Scheduler(SchedulerLimits())
    big, small = make("big", 1000), make("small", 1)
    scheduler.add(big)
    scheduler.add(small)
    assert scheduler.admit(lambda s: s.num_prompt_tokens < 10) == []
    assert list(scheduler.waiting) == [big, small]


def test_the_queue_has_a_bound() -> None:
    scheduler = Scheduler(SchedulerLimits(max_waiting=1))
    scheduler.add(make("a", 1))
    with pytest.raises(QueueFullError) as caught:
        scheduler.add(make("b", 1))
    assert caught.value.retry_after_s >= 1


def test_the_shortest_prompt_is_prefilled_first() -> None:
    scheduler = Scheduler(SchedulerLimits())
    scheduler.observe_prefill(100, 0.4)
    long, short = make("long", 1000, 0.0), make("short", 50, 1.0)
    scheduler.add(long)
    scheduler.add(short)
    admit_all(scheduler)
    assert scheduler.next_prefill(1.0) is short


def test_a_long_prompt_that_waited_goes_before_a_fresh_short_one() -> None:
    scheduler = Scheduler(SchedulerLimits())
    scheduler.observe_prefill(100, 0.4)
    long, short = make("long", 1000, 0.0), make("short", 50, 20.0)
    scheduler.add(long)
    scheduler.add(short)
    admit_all(scheduler)
    assert scheduler.next_prefill(20.0) is long


def test_decoding_sequences_are_not_prefilled() -> None:
    scheduler = Scheduler(SchedulerLimits())
    sequence = make("a", 10)
    scheduler.add(sequence)
    admit_all(scheduler)
    sequence.status = SequenceStatus.DECODING
    assert scheduler.next_prefill(0.0) is None
    assert scheduler.decoding == [sequence]


def test_slices_are_long_when_nobody_waits_and_timed_when_somebody_does() -> None:
    scheduler = Scheduler(SchedulerLimits(decode_stall_ms=200, max_slice_tokens=512))
    assert scheduler.slice_tokens(0) == 512
    assert scheduler.slice_tokens(1) == 16
    scheduler.observe_prefill(100, 0.25)
    assert scheduler.slice_tokens(1) == 80
    assert scheduler.slice_tokens(0) == 512


@given(st.floats(1e-6, 10), st.integers(1, 50))
def test_a_slice_keeps_its_bounds_whatever_is_measured(seconds: float, num_decoding: int) -> None:
    scheduler = Scheduler(SchedulerLimits())
    scheduler.observe_prefill(10, seconds)
    limits = scheduler.limits
    num_tokens = scheduler.slice_tokens(num_decoding)
    assert limits.min_slice_tokens <= num_tokens <= limits.max_slice_tokens


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 20)), min_size=2, max_size=12),
)
def test_every_prompt_is_finished_and_none_starves(work: list[tuple[int, int]]) -> None:
    """Simulated time: newcomers arrive while others wait; all finish within the total work."""
    s_per_token = 0.004
    scheduler = Scheduler(SchedulerLimits())
    scheduler.observe_prefill(1000, 1000 * s_per_token)
    pending = [make(f"a{i}", size, float(at)) for i, (size, at) in enumerate(work)]
    pending.sort(key=lambda s: s.arrival_s)
    now_s = 0.0
    finished: dict[str, float] = {}
    total_s = sum(size for size, _ in work) * s_per_token
    while len(finished) < len(work):
        while pending and pending[0].arrival_s <= now_s:
            scheduler.add(pending.pop(0))
        admit_all(scheduler)
        sequence = scheduler.next_prefill(now_s)
        if sequence is None:
            now_s = pending[0].arrival_s
            continue
        num_tokens = min(100, sequence.num_remaining_tokens)
        sequence.num_computed_tokens += num_tokens
        now_s += num_tokens * s_per_token
        if sequence.num_remaining_tokens == 0:
            scheduler.remove(sequence)
            finished[sequence.agent.agent_id] = now_s - sequence.arrival_s
    assert max(finished.values()) <= total_s + 1e-6


@given(
    st.integers(1, 1500),
    st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 30)), max_size=8),
    st.lists(st.integers(1, 300), min_size=1, max_size=40),
    st.integers(1, 6),
)
def test_a_first_token_waits_for_no_more_than_the_work_before_it(
    num_tokens: int, before: list[tuple[int, float]], later: list[int], max_running: int
) -> None:
    """However many come later: whoever arrives after twice its own work does not overtake it."""
    s_per_token = 0.004
    scheduler = Scheduler(SchedulerLimits(max_running=max_running))
    scheduler.observe_prefill(1000, 1000 * s_per_token)
    arrival_s = 30.0
    own = make("own", num_tokens, arrival_s)
    pending = [make(f"b{i}", size, at) for i, (size, at) in enumerate(before)] + [own]
    # Newcomers without end, as fast as they can be served.
    at_s = arrival_s
    for number, size in enumerate(later):
        at_s += size * s_per_token
        pending.append(make(f"l{number}", size, at_s))
    pending.sort(key=lambda s: s.arrival_s)
    overtaking_s = arrival_s + 2 * num_tokens * s_per_token
    ahead = [s for s in pending if s is not own and s.arrival_s <= overtaking_s]
    bound_s = (num_tokens + sum(s.num_prompt_tokens for s in ahead)) * s_per_token
    now_s = 0.0
    while own.num_remaining_tokens:
        while pending and pending[0].arrival_s <= now_s:
            scheduler.add(pending.pop(0))
        admit_all(scheduler)
        sequence = scheduler.next_prefill(now_s)
        if sequence is None:
            now_s = pending[0].arrival_s
            continue
        num_now = min(100, sequence.num_remaining_tokens)
        sequence.num_computed_tokens += num_now
        now_s += num_now * s_per_token
        if sequence.num_remaining_tokens == 0:
            scheduler.remove(sequence)
    assert now_s - arrival_s <= bound_s + 100 * s_per_token


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400)), min_size=1, max_size=14))
def test_turns_of_an_agent_keep_their_order_and_never_run_together(
    work: list[tuple[int, int]],
) -> None:
    scheduler = Scheduler(SchedulerLimits(max_running=3))
    agents = [Agent(f"a{number}") for number in range(4)]
    turns = []
    for number, (index, size) in enumerate(work):
        turns.append(make(f"a{index}", size, float(number)))
        turns[-1].agent = agents[index]
        scheduler.add(turns[-1])
    ended: list[Sequence] = []
    while len(ended) < len(turns):
        admit_all(scheduler)
        names = [sequence.agent.key for sequence in scheduler.running]
        assert len(names) == len(set(names))
        sequence = scheduler.next_prefill(float(len(turns)))
        assert sequence is not None
        sequence.num_computed_tokens += min(100, sequence.num_remaining_tokens)
        if not sequence.num_remaining_tokens:
            scheduler.remove(sequence)
            ended.append(sequence)
    for agent in agents:
        own = [turn for turn in turns if turn.agent is agent]
        assert [turn for turn in ended if turn.agent is agent] == own


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_every_stream_gets_a_token_between_any_two_slices(
    num_streams: int, num_prompts: int, data: st.DataObject
) -> None:
    """A share of the steps for everybody: however many prompts come, no stream misses one."""
    core, _, _ = make_core(limits=SchedulerLimits(max_slice_tokens=64))
    streams = [submit(core, f"s{n}", [n + 1] * 4, max_tokens=60) for n in range(num_streams)]
    while not all(stream.token_ids for stream in streams):
        core.step()
    for number in range(num_prompts):
        length = data.draw(st.integers(1, 500))
        submit(core, f"p{number}", [number + 100] * length, max_tokens=2)
    for _ in range(20):
        before = [len(stream.token_ids) for stream in streams]
        core.step()
        assert [len(stream.token_ids) for stream in streams] == [n + 1 for n in before]
