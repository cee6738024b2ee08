"""An agent whose last reply called tools waits for them, until its next request comes."""

from __future__ import annotations

from pathlib import Path

from engine.agent_commands import EvictIdle
from engine.commands import ToolsCalled
from engine.core import EngineCore
from engine.publisher import StepReading
from engine.snapshot import AgentRow, AgentStatus
from tests.engine.counting_model import make_core
from tests.engine.disk_core import DiskCore
from tests.engine.turns import submit

PROMPT = [(i * 31) % 997 for i in range(600)]


def row(core: EngineCore, agent_id: str = "a") -> AgentRow:
    _, rows = core.publisher.draw(StepReading(), core.agents.get(agent_id).last_active_s + 4.0)
    return next(each for each in rows if each.agent_id == agent_id)


def turn(core: EngineCore, agent_id: str = "a") -> int:
    """A whole turn; gives its number."""
    ended = submit(core, agent_id, PROMPT)
    while core.scheduler.has_work:
        core.step()
    return ended.deltas[-1].usage.turn_number


def called(core: EngineCore, number: int, agent_id: str = "a") -> None:
    core.note_tools(ToolsCalled(agent_id=agent_id, turn_number=number))


def test_from_a_reply_with_calls_to_the_next_request() -> None:
    core, _, _ = make_core()
    number = turn(core)
    assert row(core).status is AgentStatus.IDLE
    called(core, number)
    assert (row(core).status, round(row(core).idle_s)) == (AgentStatus.TOOL_WAIT, 4)

    submit(core, "a", PROMPT)
    assert row(core).status is AgentStatus.QUEUED
    while core.scheduler.has_work:
        core.step()
    assert row(core).status is AgentStatus.IDLE


def test_news_of_an_older_turn_or_of_an_agent_that_is_gone_changes_nothing() -> None:
    core, _, _ = make_core()
    older = turn(core)
    newer = turn(core)
    called(core, older)
    assert row(core).status is AgentStatus.IDLE
    called(core, newer)
    called(core, older)
    assert row(core).status is AgentStatus.TOOL_WAIT
    called(core, 7, "nobody")
    turn(core)
    assert row(core).status is AgentStatus.IDLE


def test_one_that_lost_its_cache_is_told_as_such(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path)
    number = turn(disk.core)
    disk.await_saved("a")
    called(disk.core, number)
    disk.core.actions.evict("a")
    assert row(disk.core).status is AgentStatus.WARM
    disk.close()


def test_a_fork_waits_for_nothing() -> None:
    core, _, _ = make_core()
    called(core, turn(core))
    fork = core.actions.fork("a", "b")
    assert fork == "b"
    assert row(core, "b").status is AgentStatus.IDLE
    assert row(core).status is AgentStatus.TOOL_WAIT


def test_it_is_not_one_of_all_idle_agents() -> None:
    core, _, _ = make_core()
    called(core, turn(core))
    turn(core, "b")
    command = EvictIdle()
    core.actions.obey(command)
    assert command.done.result().freed_bytes > 0
    assert row(core).status is AgentStatus.TOOL_WAIT
    assert row(core, "b").status is AgentStatus.COLD
    assert core.actions.evict("a").num_tokens > len(PROMPT)
