"""The engine without its thread, on a model that notices every wrong cache."""

from __future__ import annotations

import pytest

from engine.agent_commands import EvictIdle, Eviction
from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    ContextExceededError,
    PoolExhaustedError,
    QueueFullError,
)
from engine.request import FinishReason
from engine.scheduler import SchedulerLimits
from tests.engine.counting_model import continuation, make_core
from tests.engine.turns import Turn, check, run, submit


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def assert_right(turn: Turn, num_tokens: int = 8) -> None:
    assert turn.token_ids == continuation(turn.prompt, num_tokens)
    assert turn.finish_reason is FinishReason.MAX_TOKENS


def test_a_turn_generates_what_the_model_says() -> None:
    core, _, _ = make_core()
    turn = submit(core, "a", prompt(1, 700))
    run(core)
    assert_right(turn)
    check(core)


def test_the_first_delta_has_no_text_and_says_what_was_cached() -> None:
    core, _, _ = make_core()
    submit(core, "a", prompt(1, 700))
    run(core)
    turn = submit(core, "b", prompt(1, 700))
    run(core)
    assert turn.deltas[0].text == ""
    assert turn.deltas[0].usage.num_cached_tokens == 512
    assert turn.deltas[0].usage.num_generated_tokens == 0


def test_usage_counts_the_tokens_that_went_into_whole_blocks() -> None:
    core, _, _ = make_core()
    first = submit(core, "a", prompt(1, 700))
    run(core)
    assert first.deltas[0].usage.num_stored_tokens == 512
    second = submit(core, "a", [*prompt(1, 700), *prompt(3, 100)])
    run(core)
    assert second.num_cached_tokens == 700
    assert second.deltas[-1].usage.num_stored_tokens == 68


def test_the_next_turn_recomputes_only_its_own_new_tokens() -> None:
    core, runner, _ = make_core()
    first = submit(core, "a", prompt(1, 700))
    run(core)
    runner.num_prefilled = 0
    longer = [*first.prompt, *first.token_ids, *prompt(2, 40)]
    second = submit(core, "a", longer)
    run(core)
    assert_right(second)
    # All computed tokens are reused: the last generated one was never put into the cache.
    assert second.num_cached_tokens == 707
    assert runner.num_prefilled == len(longer) - 1 - 707


def test_a_change_in_the_middle_of_a_block_keeps_what_is_before_it() -> None:
    core, _, telemetry = make_core()
    tokens = prompt(1, 700)
    submit(core, "a", tokens)
    run(core)
    changed = [*tokens[:400], 999, *tokens[401:]]
    turn = submit(core, "a", changed)
    run(core)
    assert_right(turn)
    assert turn.num_cached_tokens == 400
    assert any(e.kind == "miss" and "changed at token 400" in e.text for e in telemetry.events)


def test_agents_with_the_same_prefix_share_its_blocks() -> None:
    core, _, _ = make_core()
    shared = prompt(1, 600)
    turns = [submit(core, f"agent-{i}", [*shared, *prompt(i + 5, 20)]) for i in range(5)]
    run(core)
    for turn in turns:
        assert_right(turn)
    # Two full blocks once, and a tail of each.
    assert core.pool.num_referenced_blocks == 2 + 5
    check(core)


def test_requests_that_arrive_together_compute_a_common_prefix_once() -> None:
    core, runner, _ = make_core()
    shared = prompt(1, 1024)
    turns = [submit(core, f"agent-{i}", [*shared, *prompt(i + 5, 20)]) for i in range(4)]
    run(core)
    for turn in turns:
        assert_right(turn)
    assert runner.num_prefilled == 1024 + 4 * 19


def test_aborting_one_leaves_the_others_right_and_frees_its_blocks() -> None:
    core, _, _ = make_core()
    turns = [submit(core, f"agent-{i}", prompt(i, 300), max_tokens=20) for i in range(4)]
    for _ in range(8):
        core.step()
    core.abort(turns[1].request_id, "client went away")
    check(core)
    run(core)
    assert turns[1].finish_reason is FinishReason.ABORTED
    for turn in (turns[0], turns[2], turns[3]):
        assert_right(turn, 20)
    check(core)


def test_an_aborted_turn_keeps_a_longer_cache_of_its_agent() -> None:
    core, _, _ = make_core()
    first = submit(core, "a", prompt(1, 700))
    run(core)
    turn = submit(core, "a", first.prompt[:300])
    core.step()
    core.abort(turn.request_id, "client went away")
    run(core)
    again = submit(core, "a", first.prompt)
    run(core)
    assert again.num_cached_tokens == 699
    assert_right(again)


def test_aborting_unknown_requests_is_harmless() -> None:
    core, _, _ = make_core()
    core.abort("nobody", "client went away")


def test_an_evicted_agent_recomputes_and_still_answers_right() -> None:
    core, runner, telemetry = make_core()
    first = submit(core, "a", prompt(1, 700))
    run(core)
    assert core.actions.evict("a").freed_bytes > 0
    assert core.pool.num_referenced_blocks == 0
    assert core.agents.get("a").num_evicted_tokens == 707
    runner.num_prefilled = 0
    again = submit(core, "a", first.prompt)
    run(core)
    assert_right(again)
    assert again.num_cached_tokens == 0
    assert runner.num_prefilled == 699
    assert any(
        e.kind == "miss" and e.text.startswith("a: evicted: 699 tokens") for e in telemetry.events
    )


def test_evicting_one_agent_keeps_what_another_shares() -> None:
    core, _, _ = make_core()
    submit(core, "a", prompt(1, 600))
    submit(core, "b", prompt(1, 600))
    run(core)
    core.actions.evict("a")
    turn = submit(core, "b", prompt(1, 600))
    run(core)
    assert turn.num_cached_tokens == 599
    check(core)


def test_a_busy_or_unknown_agent_is_not_evicted() -> None:
    core, _, _ = make_core()
    submit(core, "a", prompt(1, 600))
    core.step()
    with pytest.raises(AgentBusyError):
        core.actions.evict("a")
    with pytest.raises(AgentNotFoundError):
        core.actions.evict("nobody")
    run(core)


def test_room_is_made_by_evicting_the_oldest_idle_agent_never_a_pinned_one() -> None:
    core, _, telemetry = make_core(num_blocks=8)
    for number, name in enumerate(("pinned", "old", "young")):
        submit(core, name, prompt(number, 500))
        run(core)
    core.actions.pin("pinned", True)
    turn = submit(core, "new", prompt(9, 900))
    run(core)
    assert_right(turn)
    assert core.agents.get("pinned").block_table
    assert not core.agents.get("old").block_table
    assert any(e.kind == "evict" and e.text.startswith("old:") for e in telemetry.events)
    check(core)


def test_running_sequences_that_outgrow_the_pool_are_preempted_and_resume_rightly() -> None:
    core, _, telemetry = make_core(num_blocks=7)
    turns = [submit(core, f"agent-{i}", prompt(i, 250), max_tokens=600) for i in range(3)]
    run(core)
    for turn in turns:
        assert_right(turn, 600)
    assert any(e.kind == "preempt" for e in telemetry.events)
    check(core)


def test_a_request_that_pinned_agents_leave_no_room_for_is_refused() -> None:
    core, _, _ = make_core(num_blocks=4)
    submit(core, "a", prompt(1, 600))
    run(core)
    core.actions.pin("a", True)
    with pytest.raises(PoolExhaustedError, match="unpin"):
        submit(core, "b", prompt(2, 600))
    check(core)


def test_an_agent_pinned_while_another_waits_makes_the_other_fail_not_hang() -> None:
    core, _, _ = make_core(num_blocks=4)
    running = submit(core, "a", prompt(1, 600), max_tokens=3)
    waiting = submit(core, "b", prompt(2, 600), max_tokens=3)
    core.actions.pin("a", True)
    run(core)
    assert running.finish_reason is FinishReason.MAX_TOKENS
    assert waiting.finish_reason is FinishReason.ERROR
    assert isinstance(waiting.deltas[-1].error, PoolExhaustedError)
    check(core)


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers() -> None:
    core, _, _ = make_core(max_context_tokens=500)
    with pytest.raises(ContextExceededError) as caught:
        submit(core, "a", prompt(1, 500))
    assert caught.value.num_prompt_tokens == 500
    assert caught.value.max_context_tokens == 500


def test_max_tokens_is_clamped_to_the_context() -> None:
    core, _, _ = make_core(max_context_tokens=300)
    turn = submit(core, "a", prompt(1, 290), max_tokens=32000)
    run(core)
    assert_right(turn, 10)


def test_the_queue_is_bounded_and_says_when_to_come_back() -> None:
    core, _, _ = make_core(limits=SchedulerLimits(max_waiting=2))
    for number in range(2):
        submit(core, f"a{number}", prompt(number, 20))
    with pytest.raises(QueueFullError) as caught:
        submit(core, "late", prompt(9, 20))
    assert caught.value.retry_after_s >= 1
    run(core)
    # A refused request leaves no agent that looks busy.
    core.actions.evict("a0")
    check(core)


def test_turns_of_one_agent_run_one_after_the_other() -> None:
    core, _, _ = make_core()
    first = submit(core, "a", prompt(1, 300))
    second = submit(core, "a", prompt(1, 300))
    core.step()
    assert len(core.scheduler.running) == 1
    run(core)
    assert_right(first)
    assert_right(second)
    assert second.num_cached_tokens == 299


def test_without_an_id_a_conversation_is_recognised_by_its_text() -> None:
    core, _, _ = make_core()
    first = submit(core, None, prompt(1, 300))
    run(core)
    other = submit(core, None, prompt(2, 300))
    run(core)
    second = submit(core, None, [*first.prompt, *first.token_ids, 5, 6])
    run(core)
    assert second.deltas[0].agent_id == first.deltas[0].agent_id
    assert other.deltas[0].agent_id != first.deltas[0].agent_id


def test_two_new_conversations_at_once_are_two_agents() -> None:
    core, _, _ = make_core()
    first = submit(core, None, prompt(1, 300))
    second = submit(core, None, prompt(1, 300))
    run(core)
    assert first.deltas[0].agent_id != second.deltas[0].agent_id


def test_a_stop_string_ends_the_turn_and_is_not_shown() -> None:
    core, _, _ = make_core()
    tokens = continuation(prompt(1, 50), 8)
    stop = f"{tokens[3]} {tokens[4]}"
    turn = submit(core, "a", prompt(1, 50), stop=(stop,))
    run(core)
    assert turn.finish_reason is FinishReason.STOP_STRING
    assert turn.deltas[-1].stop_string == stop
    text = "".join(delta.text for delta in turn.deltas)
    assert text == "".join(f"{token} " for token in tokens[:3])


def test_numbers_that_are_not_finite_fail_one_turn_and_no_other() -> None:
    core, runner, telemetry = make_core()
    good, bad = prompt(1, 300), prompt(2, 300)
    runner.poisoned = {continuation(bad, 3)[2]} - set(continuation(good, 8))
    turns = [submit(core, "good", good), submit(core, "bad", bad)]
    run(core)
    assert_right(turns[0])
    assert turns[1].finish_reason is FinishReason.ERROR
    assert any(e.level == "error" for e in telemetry.events)
    assert not core.agents.get("bad").block_table
    check(core)


def test_shutting_down_ends_every_turn() -> None:
    core, _, _ = make_core()
    turns = [submit(core, f"a{i}", prompt(i, 300)) for i in range(3)]
    core.step()
    core.abort_all()
    assert [turn.finish_reason for turn in turns] == [FinishReason.ABORTED] * 3
    assert not core.scheduler.has_work
    check(core)


def test_blocks_of_a_pinned_agent_are_freed_when_evicted_by_hand() -> None:
    core, _, _ = make_core()
    submit(core, "a", prompt(1, 600))
    run(core)
    core.actions.pin("a", True)
    idle = EvictIdle()
    core.actions.obey(idle)
    assert idle.done.result(0) == Eviction()
    assert core.actions.evict("a").freed_bytes == 3 * core.pool.block_bytes


def test_a_short_prompt_overtakes_a_long_one() -> None:
    core, _, _ = make_core(limits=SchedulerLimits(max_slice_tokens=64))
    long = submit(core, "long", prompt(1, 4000))
    core.step()
    short = submit(core, "short", prompt(2, 30), max_tokens=2)
    for _ in range(6):
        core.step()
    assert short.finish_reason is FinishReason.MAX_TOKENS
    assert long.token_ids == []
    run(core)
    assert_right(long)


def test_an_agent_with_most_of_the_pool_goes_on_with_its_conversation() -> None:
    core, runner, _ = make_core(num_blocks=7)
    first = submit(core, "a", prompt(1, 1400))
    run(core)
    core.actions.pin("a", True)
    runner.num_prefilled = 0
    second = submit(core, "a", [*first.prompt, *first.token_ids, *prompt(2, 50)])
    run(core)
    assert_right(second)
    assert second.num_cached_tokens == 1407
    assert runner.num_prefilled == 50
    check(core)


def test_agents_that_wait_do_not_keep_each_other_out_with_what_they_hold() -> None:
    core, _, _ = make_core(num_blocks=4)
    common = prompt(3, 256)
    long = submit(core, "a", [*common, *prompt(1, 444)])
    run(core)
    short = submit(core, "b", [*common, *prompt(2, 100)])
    run(core)
    turns = [
        submit(core, agent_id, [*turn.prompt, *turn.token_ids, 5])
        for agent_id, turn in (("a", long), ("b", short))
    ]
    run(core)
    for turn in turns:
        assert_right(turn)
    check(core)
