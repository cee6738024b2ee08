"""What is remembered of an agent's turns, and agents that start from the end of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cache.turn_history import MAX_TURN_MARKS
from engine.core import EngineCore
from engine.errors import AgentBusyError, AgentNotFoundError, InvalidRequestError
from engine.publisher import MAX_TURNS, StepReading
from engine.request import FinishReason
from tests.engine.counting_model import CountingRunner, continuation, make_core
from tests.engine.disk_core import DiskCore
from tests.engine.stateful_model import StatefulRunner
from tests.engine.turns import Turn, check, run, submit

KINDS = pytest.mark.parametrize("make_runner", [CountingRunner, StatefulRunner])


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def assert_right(turn: Turn, num_tokens: int = 8) -> None:
    assert turn.token_ids == continuation(turn.prompt, num_tokens)
    assert turn.finish_reason is FinishReason.MAX_TOKENS


def ask(core: EngineCore, agent: str, tokens: list[int], namespace: str = "") -> Turn:
    turn = submit(core, agent, tokens, namespace=namespace)
    run(core)
    assert_right(turn)
    check(core)
    return turn


def ask_disk(disk: DiskCore, agent: str, tokens: list[int]) -> Turn:
    turn = submit(disk.core, agent, tokens)
    disk.run()
    assert_right(turn)
    check(disk.core)
    return turn


def converse(core: EngineCore, agent: str, num_turns: int) -> list[list[int]]:
    """A conversation; returns the context at the end of each turn, as it is in the cache."""
    contexts = []
    tokens = prompt(1, 300)
    for number in range(num_turns):
        turn = ask(core, agent, tokens)
        assert [turn.deltas[place].usage.turn_number for place in (0, -1)] == [0, number + 1]
        contexts.append([*turn.prompt, *turn.token_ids[:-1]])
        tokens = [*turn.prompt, *turn.token_ids, *prompt(number + 2, 200)]
    return contexts


def test_each_turn_leaves_a_mark() -> None:
    core, _, _ = make_core()
    contexts = converse(core, "a", 3)
    _, (row,) = core.publisher.draw(StepReading(), 1e6)
    assert [turn.number for turn in row.turns] == [1, 2, 3]
    assert [turn.num_context_tokens for turn in row.turns] == [len(c) for c in contexts]
    assert [turn.num_cached_tokens for turn in row.turns] == [0, 307, 515]
    assert all(turn.ttft_s and turn.resumable for turn in row.turns)


def test_only_the_last_turns_are_remembered_and_fewer_are_shown() -> None:
    core, _, _ = make_core()
    for _ in range(MAX_TURN_MARKS + 5):
        ask(core, "a", prompt(1, 20))
    history = core.agents.get("a").history
    assert [mark.number for mark in history] == list(range(6, MAX_TURN_MARKS + 6))
    _, (row,) = core.publisher.draw(StepReading(), 1e6)
    assert [turn.number for turn in row.turns][-1] == MAX_TURN_MARKS + 5
    assert len(row.turns) == MAX_TURNS


@KINDS
@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_fork_starts_at_the_end_of_a_turn(make_runner: type[CountingRunner], turn: int) -> None:
    core, runner, _ = make_core(runner=make_runner())
    contexts = converse(core, "a", 3)
    num_used = core.pool.num_referenced_blocks
    fork = core.agents.fork(core.agents.get("a"), None, turn)
    check(core)
    context = contexts[turn - 1]
    assert list(fork.token_ids) == context
    # Nothing is copied; only a checkpoint that nobody held is held now.
    num_more = core.pool.num_referenced_blocks - num_used
    assert num_more == 0 if turn == 3 or make_runner is CountingRunner else num_more == 3
    runner.num_prefilled = 0
    forked = ask(core, fork.agent_id, [*context, 1, 2, 3])
    assert forked.num_cached_tokens == len(context)
    assert runner.num_prefilled == 2
    assert [mark.number for mark in fork.history] == [*range(1, turn + 1), turn + 1]
    # The original goes on as if nothing had been.
    original = ask(core, "a", [*contexts[2], 4, 5])
    assert original.num_cached_tokens == len(contexts[2])


@KINDS
@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_fork_at_a_turn_after_a_restart(
    make_runner: type[CountingRunner], turn: int, tmp_path: Path
) -> None:
    first_run = DiskCore(tmp_path, runner=make_runner())
    tokens, contexts = prompt(1, 300), []
    for number in range(3):
        asked = ask_disk(first_run, "a", tokens)
        contexts.append([*asked.prompt, *asked.token_ids[:-1]])
        tokens = [*asked.prompt, *asked.token_ids, *prompt(number + 2, 200)]
    first_run.close()

    disk = DiskCore(tmp_path, runner=make_runner())
    core = disk.core
    assert [mark.number for mark in core.agents.get("a").history] == [1, 2, 3]
    fork = core.agents.fork(core.agents.get("a"), "b", turn)
    disk.persistence.keep_facts(fork)
    context = contexts[turn - 1]
    if turn == 2:
        # The fork itself is there after another restart.
        disk.close()
        disk = DiskCore(tmp_path, runner=make_runner())
    forked = ask_disk(disk, "b", [*context, 1, 2, 3])
    is_whole = turn == 3 or make_runner is StatefulRunner
    expected = len(context) if is_whole else len(context) // 256 * 256
    assert forked.num_cached_tokens == expected
    disk.close()


@KINDS
def test_turns_that_are_gone_are_said_and_those_that_are_not(
    make_runner: type[CountingRunner],
) -> None:
    core, _, _ = make_core(runner=make_runner())
    converse(core, "a", 3)
    agent = core.agents.get("a")
    with pytest.raises(InvalidRequestError, match=r"turn 9 of 'a' cannot be had.*can: 1, 2, 3$"):
        core.agents.fork(agent, None, 9)
    core.agents.evict(agent)
    with pytest.raises(InvalidRequestError, match=r"turn 2 .*can: none$"):
        core.agents.fork(agent, None, 2)
    _, (row,) = core.publisher.draw(StepReading(), 1e6)
    assert not any(turn.resumable for turn in row.turns)
    check(core)


def test_a_fork_at_a_turn_whose_words_were_changed_takes_no_block_of_other_words() -> None:
    core, _, _ = make_core()
    first = ask(core, "a", prompt(1, 300))
    # The same first block, and then something else than the first turn's tail.
    ask(core, "a", [*first.prompt[:280], *prompt(7, 300)])
    fork = core.agents.fork(core.agents.get("a"), None, 1)
    assert list(fork.token_ids) == list(first.prompt[:256])
    check(core)


def test_a_removed_agent_is_forgotten_with_what_only_it_had(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path, runner=StatefulRunner())
    ask_disk(disk, "a", prompt(1, 600))
    ask_disk(disk, "b", prompt(2, 300))
    disk.await_saved("a")
    disk.await_saved("b")
    busy = submit(disk.core, "a", prompt(1, 700))
    with pytest.raises(AgentBusyError):
        disk.core.agents.remove(disk.core.agents.get("a"))
    disk.core.abort(busy.request_id, "enough")
    freed_bytes = disk.core.agents.remove(disk.core.agents.get("a"))
    assert freed_bytes >= 5 * disk.core.pool.block_bytes
    with pytest.raises(AgentNotFoundError):
        disk.core.agents.get("a")
    check(disk.core)
    disk.close()
    # One full block of b, and its checkpoints at the ends of prompt and turn.
    assert disk.persistence.tier.stats.num_blocks == 3
    again = DiskCore(tmp_path, runner=StatefulRunner())
    assert [agent.agent_id for agent in again.core.agents] == ["b"]
    again.close()


# Namespaces


@KINDS
def test_namespaces_share_neither_names_nor_blocks(make_runner: type[CountingRunner]) -> None:
    core, runner, _ = make_core(runner=make_runner())
    ask(core, "a", prompt(1, 600), "alice")
    runner.num_prefilled = 0
    theirs = ask(core, "a", prompt(1, 600), "bob")
    assert theirs.num_cached_tokens == 0
    assert runner.num_prefilled == 599
    assert ask(core, "a", prompt(1, 600), "alice").num_cached_tokens == 599
    with pytest.raises(AgentNotFoundError):
        core.agents.get("a")
    rows = core.publisher.draw(StepReading(), 1e6)[1]
    assert {(row.namespace, row.agent_id) for row in rows} == {("alice", "a"), ("bob", "a")}


def test_a_conversation_without_an_id_is_found_in_its_own_namespace_only() -> None:
    core, _, _ = make_core()
    first = submit(core, None, prompt(1, 300), namespace="alice")
    run(core)
    other = submit(core, None, prompt(1, 310), namespace="bob")
    run(core)
    assert core.agents.find(other.deltas[0].agent_id, "bob") is not None
    second = submit(core, None, prompt(1, 310), namespace="alice")
    run(core)
    assert second.deltas[0].agent_id == first.deltas[0].agent_id
    assert other.num_cached_tokens == 0
    assert second.num_cached_tokens == 300


def test_namespaces_survive_a_restart(tmp_path: Path) -> None:
    first_run = DiskCore(tmp_path)
    for namespace in ("alice", "bob", ""):
        submit(first_run.core, "a", prompt(1, 300), namespace=namespace)
        first_run.run()
    first_run.close()
    disk = DiskCore(tmp_path)
    assert {agent.key for agent in disk.core.agents} == {("alice", "a"), ("bob", "a"), ("", "a")}
    disk.core.agents.remove(disk.core.agents.get("a", "bob"))
    turn = submit(disk.core, "a", prompt(1, 300), namespace="alice")
    stranger = submit(disk.core, "a", prompt(1, 300), namespace="carol")
    disk.run()
    assert turn.num_cached_tokens == 299
    assert stranger.num_cached_tokens == 0
    check(disk.core)
    disk.close()
