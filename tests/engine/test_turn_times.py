"""Where the time of turns goes, and what an agent is saying."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.agent_commands import AgentText, ReadAgent
from engine.agent_text import MAX_LIVE_TOKENS
from engine.cache.turn_history import TurnMark, from_scalars, to_scalars
from engine.core import EngineCore
from engine.errors import AgentNotFoundError
from engine.publisher import StepReading
from engine.scheduler import SchedulerLimits
from engine.snapshot import AgentRow, TurnTimes
from engine.turn_timer import Phase, TurnTimer
from tests.engine.counting_model import Clock, make_core
from tests.engine.disk_core import DiskCore
from tests.engine.turns import run, submit


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def row_of(core: EngineCore, agent_id: str) -> AgentRow:
    rows = core.publisher.draw(StepReading(), core._clock())[1]
    return next(row for row in rows if row.agent_id == agent_id)


def read(core: EngineCore, agent_id: str, namespace: str = "") -> AgentText:
    command = ReadAgent(agent_id=agent_id, namespace=namespace, with_reply=True)
    core.actions.obey(command)
    return command.done.result(0)


def test_phases_add_up_however_often_a_turn_comes_back_to_them() -> None:
    timer = TurnTimer(10.0)
    timer.enter(Phase.RESTORE, 11.0)
    timer.enter(Phase.QUEUE, 13.0)
    timer.enter(Phase.PREFILL, 14.0)
    timer.enter(Phase.PREFILL, 15.0)
    timer.enter(Phase.QUEUE, 18.0)
    expected = TurnTimes(queue_s=4.0, restore_s=2.0, prefill_s=4.0)
    assert timer.times(20.0) == expected
    assert timer.times(20.0).total_s == 10.0


def test_what_a_turn_waits_for_is_told_apart() -> None:
    clock = Clock()
    core, _, _ = make_core(clock=clock, limits=SchedulerLimits(max_running=1))
    submit(core, "first", prompt(1, 300))
    submit(core, "second", prompt(2, 300))
    core.step()
    clock.now_s += 5.0
    waiting, running = row_of(core, "second").times, row_of(core, "first").times
    assert waiting.queue_s > 5.0
    assert waiting.prefill_s == waiting.decode_s == 0.0
    assert running.prefill_s > 5.0 > running.queue_s
    run(core)
    (turn,) = row_of(core, "second").turns
    assert turn.times.queue_s > 5.0 > turn.times.prefill_s > 0.0
    assert turn.ttft_s is not None
    before_decode_s = turn.times.total_s - turn.times.decode_s
    assert before_decode_s == pytest.approx(turn.ttft_s)
    assert row_of(core, "second").times == TurnTimes()


def test_reading_from_disk_is_a_phase_of_its_own_and_is_remembered(tmp_path: Path) -> None:
    before = DiskCore(tmp_path)
    submit(before.core, "a", prompt(1, 600))
    before.run()
    before.close()
    disk = DiskCore(tmp_path)
    submit(disk.core, "a", prompt(1, 700))
    disk.run()
    turn = row_of(disk.core, "a").turns[-1]
    assert turn.times.restore_s > 0.0
    disk.close()
    again = DiskCore(tmp_path)
    assert row_of(again.core, "a").turns[-1].times == turn.times
    again.close()


def test_marks_of_a_version_that_measured_no_times_are_read() -> None:
    data = to_scalars(TurnMark(number=3, times=TurnTimes(queue_s=1.5)))
    assert from_scalars(data).times.queue_s == 1.5
    del data["times"]
    assert from_scalars(data).times == TurnTimes()
    for times in ({"queue_s": "long"}, {"lunch_s": 1.0}, 7):
        with pytest.raises((ValueError, TypeError)):
            from_scalars(data | {"times": times})


def test_the_running_reply_is_told_to_whoever_asks_and_no_snapshot_has_it() -> None:
    core, _, _ = make_core()
    turn = submit(core, "a", prompt(1, 300), max_tokens=MAX_LIVE_TOKENS + 50)
    assert read(core, "a") == AgentText()
    for _ in range(12):
        core.step()
    text = read(core, "a")
    assert text.reply == "".join(f"{token} " for token in turn.token_ids)
    assert text.reply
    assert not text.is_cut
    without = ReadAgent(agent_id="a")
    core.actions.obey(without)
    assert without.done.result(0).reply is None
    while len(turn.token_ids) <= MAX_LIVE_TOKENS:
        core.step()
    assert read(core, "a").is_cut
    assert len((read(core, "a").reply or "").split()) == MAX_LIVE_TOKENS
    run(core)
    assert read(core, "a").reply is None


def test_the_text_that_changed_is_told_until_a_turn_changes_nothing() -> None:
    core, _, _ = make_core()
    first = submit(core, "a", prompt(1, 600))
    run(core)
    changed = [*first.prompt[:400], *prompt(2, 300)]
    second = submit(core, "a", changed)
    run(core)
    text = read(core, "a")
    assert text.lead.split() == [str(token) for token in changed[376:400]]
    assert text.was.split() == [str(token) for token in first.prompt[400:416]]
    assert text.now.split() == [str(token) for token in changed[400:416]]
    submit(core, "a", [*changed, *second.token_ids, *prompt(3, 50)])
    run(core)
    assert read(core, "a") == AgentText()


def test_what_others_agents_say_is_not_found() -> None:
    core, _, _ = make_core()
    submit(core, "a", prompt(1, 300), namespace="alice")
    run(core)
    with pytest.raises(AgentNotFoundError):
        read(core, "a", "bob")
    assert read(core, "a", "alice") == AgentText()
