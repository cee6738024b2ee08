"""A model that can be resumed only where its state was kept: what is kept, shared and found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cache.block import BLOCK_TOKENS
from engine.core import EngineCore
from engine.errors import ContextExceededError
from engine.request import FinishReason, PromptPart
from engine.scheduler import SchedulerLimits
from tests.engine.counting_model import CountingRunner, continuation, make_core
from tests.engine.disk_core import DiskCore
from tests.engine.stateful_model import CHECKPOINT_SLOTS, StatefulRunner
from tests.engine.turns import Turn, check, run, submit


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def stateful_core(
    num_blocks: int = 64, limits: SchedulerLimits | None = None
) -> tuple[EngineCore, CountingRunner]:
    core, runner, _ = make_core(num_blocks=num_blocks, limits=limits, runner=StatefulRunner())
    return core, runner


def assert_right(turn: Turn, num_tokens: int = 8) -> None:
    assert turn.token_ids == continuation(turn.prompt, num_tokens)
    assert turn.finish_reason is FinishReason.MAX_TOKENS


def ask(core: EngineCore, agent: str, tokens: list[int], *parts: PromptPart) -> Turn:
    turn = submit(core, agent, tokens, parts=parts)
    run(core)
    assert_right(turn)
    check(core)
    return turn


def test_the_next_turn_goes_on_from_where_the_last_one_ended() -> None:
    core, runner = stateful_core()
    first = ask(core, "a", prompt(1, 700))
    runner.num_prefilled = 0
    longer = [*first.prompt, *first.token_ids, *prompt(2, 40)]
    second = ask(core, "a", longer)
    assert second.num_cached_tokens == 707
    assert runner.num_prefilled == len(longer) - 1 - 707


@pytest.mark.parametrize("num_tokens", [505, 506, 767, 768])
def test_a_turn_may_end_at_a_block_boundary(num_tokens: int) -> None:
    core, _ = stateful_core()
    first = ask(core, "a", prompt(1, num_tokens))
    second = ask(core, "a", [*first.prompt, *first.token_ids, 5, 6])
    assert second.num_cached_tokens == num_tokens + 7


def test_a_prompt_that_is_sent_again_is_not_computed_again() -> None:
    core, runner = stateful_core()
    ask(core, "a", prompt(1, 700))
    runner.num_prefilled = 0
    again = ask(core, "a", prompt(1, 700))
    assert again.num_cached_tokens == 699
    assert runner.num_prefilled == 0


def test_agents_with_the_same_tools_and_system_share_them() -> None:
    core, runner = stateful_core()
    shared = prompt(1, 600)
    parts = [PromptPart("system", 0), PromptPart("message 1 (user)", 600)]
    ask(core, "a", [*shared, *prompt(2, 100)], *parts)
    runner.num_prefilled = 0
    other = ask(core, "b", [*shared, *prompt(3, 100)], *parts)
    assert other.num_cached_tokens == 600
    assert runner.num_prefilled == 99


def test_requests_that_arrive_together_compute_a_common_beginning_once() -> None:
    core, runner = stateful_core()
    shared = prompt(1, 1000)
    parts = (PromptPart("system", 0), PromptPart("message 1 (user)", 1000))
    turns = [
        submit(core, f"agent-{i}", [*shared, *prompt(i + 5, 20)], parts=parts) for i in range(4)
    ]
    run(core)
    for turn in turns:
        assert_right(turn)
    assert runner.num_prefilled == 1000 + 4 * 19
    check(core)


def test_a_reply_in_other_words_costs_only_the_reply() -> None:
    core, _ = stateful_core()
    tokens = prompt(1, 400)
    parts = (PromptPart("message 1 (user)", 0), PromptPart("reply", 397))
    ask(core, "a", tokens, *parts)
    changed = [*tokens[:397], *prompt(9, 30)]
    second = ask(core, "a", changed, *parts)
    assert second.num_cached_tokens == 397


def test_a_client_may_go_back_to_an_earlier_turn() -> None:
    core, _ = stateful_core()
    first = ask(core, "a", prompt(1, 300))
    context = [*first.prompt, *first.token_ids]
    ask(core, "a", [*context, *prompt(2, 300)])
    back = ask(core, "a", [*context, *prompt(3, 300)])
    assert back.num_cached_tokens == 307


def test_a_checkpoint_is_paid_for() -> None:
    core, _ = stateful_core()
    ask(core, "a", prompt(1, 300))
    # One full block, and a checkpoint at the end; another, at the prompt's end, is held by nobody.
    assert core.pool.num_referenced_blocks == 1 + CHECKPOINT_SLOTS
    assert core.pool.num_cached_blocks == CHECKPOINT_SLOTS
    core.actions.evict("a")
    assert core.pool.num_referenced_blocks == 0


def test_a_pool_tells_how_long_a_context_it_can_hold() -> None:
    core, _ = stateful_core(num_blocks=6)
    assert core.max_context_tokens == 4 * BLOCK_TOKENS - 1
    longest = submit(core, "a", prompt(1, core.max_context_tokens - 1), max_tokens=100)
    run(core)
    assert_right(longest, 1)
    check(core)
    with pytest.raises(ContextExceededError):
        submit(core, "a", prompt(1, core.max_context_tokens))


def test_evicting_an_agent_leaves_the_beginning_that_others_have_too() -> None:
    core, _ = stateful_core()
    shared = prompt(1, 300)
    parts = [PromptPart("system", 0), PromptPart("message 1 (user)", 300)]
    ask(core, "a", [*shared, *prompt(2, 100)], *parts)
    ask(core, "b", [*shared, *prompt(3, 100)], *parts)
    core.actions.evict("a")
    assert ask(core, "c", [*shared, *prompt(4, 100)], *parts).num_cached_tokens == 300


def test_preempted_sequences_go_on_where_they_were_stopped() -> None:
    core, _ = stateful_core(num_blocks=14)
    turns = [submit(core, f"agent-{i}", prompt(i, 250), max_tokens=600) for i in range(3)]
    run(core)
    for turn in turns:
        assert_right(turn, 600)
    check(core)


def test_an_aborted_turn_is_no_loss() -> None:
    core, runner = stateful_core(limits=SchedulerLimits(max_slice_tokens=100))
    turn = submit(core, "a", prompt(1, 700))
    for _ in range(4):
        core.step()
    core.abort(turn.request_id, "client went away")
    check(core)
    num_computed = runner.num_prefilled
    assert 0 < num_computed < 699
    ask(core, "a", prompt(1, 700))
    assert runner.num_prefilled == 699


# With a disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCore]:
    disk = DiskCore(tmp_path, runner=StatefulRunner())
    yield disk
    disk.close()


def ask_disk(disk: DiskCore, agent: str, tokens: list[int], *parts: PromptPart) -> Turn:
    turn = submit(disk.core, agent, tokens, parts=parts)
    disk.run()
    assert_right(turn)
    check(disk.core)
    return turn


def empty_pool(disk: DiskCore) -> None:
    for agent in list(disk.core.agents):
        disk.await_saved(agent.agent_id)
        disk.core.actions.evict(agent.agent_id)
    disk.core.pool.drop_cached(list(disk.core.pool))
    assert disk.core.pool.num_free_blocks == disk.core.pool.num_total_blocks


def test_an_evicted_agent_is_read_back(disk: DiskCore) -> None:
    first = ask_disk(disk, "a", prompt(1, 700))
    empty_pool(disk)
    disk.runner.num_prefilled = 0
    second = ask_disk(disk, "a", [*first.prompt, *first.token_ids, *prompt(2, 40)])
    assert second.num_cached_tokens == 707
    assert disk.runner.num_prefilled == 40


@pytest.mark.parametrize("num_tokens", [700, 761])
def test_a_conversation_goes_on_after_a_restart(tmp_path: Path, num_tokens: int) -> None:
    first_run = DiskCore(tmp_path, runner=StatefulRunner())
    first = ask_disk(first_run, "a", prompt(1, num_tokens))
    first_run.close()
    disk = DiskCore(tmp_path, runner=StatefulRunner())
    second = ask_disk(disk, "a", [*first.prompt, *first.token_ids, *prompt(2, 40)])
    assert second.num_cached_tokens == num_tokens + 7
    disk.close()


def test_a_client_may_go_back_to_an_earlier_turn_after_a_restart(tmp_path: Path) -> None:
    first_run = DiskCore(tmp_path, runner=StatefulRunner())
    first = ask_disk(first_run, "a", prompt(1, 300))
    context = [*first.prompt, *first.token_ids]
    ask_disk(first_run, "a", [*context, *prompt(2, 300)])
    first_run.close()
    disk = DiskCore(tmp_path, runner=StatefulRunner())
    back = ask_disk(disk, "a", [*context, *prompt(3, 300)])
    assert back.num_cached_tokens == 307
    disk.close()


def test_another_agent_reads_the_shared_beginning(disk: DiskCore) -> None:
    parts = (PromptPart("tools", 0), PromptPart("message 1 (user)", 600))
    ask_disk(disk, "a", [*prompt(1, 600), *prompt(2, 50)], *parts)
    empty_pool(disk)
    turn = ask_disk(disk, "b", [*prompt(1, 600), *prompt(7, 50)], *parts)
    assert turn.num_cached_tokens == 600


def test_a_damaged_checkpoint_sends_a_turn_back_to_an_earlier_one(tmp_path: Path) -> None:
    first_run = DiskCore(tmp_path, runner=StatefulRunner())
    first = ask_disk(first_run, "a", prompt(1, 300))
    context = [*first.prompt, *first.token_ids]
    second = ask_disk(first_run, "a", [*context, *prompt(2, 300)])
    context = [*second.prompt, *second.token_ids]
    first_run.await_saved("a")
    saved = first_run.core.agents.get("a").saved
    assert saved is not None
    first_run.close()
    (path,) = (tmp_path / "kv").rglob(f"{saved.block_hashes[-1].hex()}.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    disk = DiskCore(tmp_path, runner=StatefulRunner())
    third = ask_disk(disk, "a", [*context, *prompt(3, 40)])
    # The end of the second turn's prompt.
    assert third.num_cached_tokens == len(second.prompt) - 1
    disk.close()


def test_the_disk_keeps_no_checkpoint_that_nobody_can_go_back_to(disk: DiskCore) -> None:
    context: list[int] = prompt(1, 80)
    for number in range(4):
        turn = ask_disk(disk, "a", context)
        disk.await_saved("a")
        context = [*turn.prompt, *turn.token_ids, *prompt(number + 2, 80)]
    disk.close()
    # One full block, an end for each turn, and the end of the last prompt.
    assert disk.persistence.tier.stats.num_blocks == 1 + 4 + 1


def test_a_checkpoint_is_used_only_with_all_blocks_before_it() -> None:
    core, runner = stateful_core()
    ask(core, "a", prompt(1, 700))
    agent = core.agents.get("a")
    full = [block for block in agent.block_table if len(block.token_ids) == BLOCK_TOKENS]
    core.agents.store(agent, [], ())
    assert core.pool.drop_cached(full[:1]) == 1
    runner.num_prefilled = 0
    again = ask(core, "a", prompt(1, 700))
    assert again.deltas[0].usage.num_cached_tokens == 0
    # Once that one block is computed, the rest is there.
    assert runner.num_prefilled == BLOCK_TOKENS


def test_one_that_had_to_make_room_goes_on_from_where_it_was() -> None:
    core, runner, telemetry = make_core(num_blocks=7, runner=StatefulRunner())
    turns = [submit(core, f"agent-{i}", prompt(i, 250), max_tokens=30) for i in range(2)]
    run(core)
    for turn in turns:
        assert_right(turn, 30)
    assert any(event.kind == "preempt" for event in telemetry.events)
    assert runner.num_prefilled == 2 * 249
    check(core)
