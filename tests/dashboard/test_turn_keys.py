"""Pauses, priorities, the batch window, and evictions undone: by key, by palette and by mouse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.dashboard.app import StokerApp
from app.dashboard.screens.choice import ChoiceScreen
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.snapshot import AgentRow, AgentStatus, EngineSnapshot, from_json
from engine.turn_limits import MAX_PRIORITY, MIN_PRIORITY
from tests.dashboard.attaching import attached, scripted, serving
from tests.dashboard.driving import EVERY_WAY, REVIEW_BOT, dashboard, do, until
from tests.dashboard.screen_text import screen_lines, screen_text, toasts

DECODING, IDLE = "claude repo-a", "review-bot"


def row_of(engine: ScriptedEngine, agent_id: str) -> AgentRow:
    row = engine.snapshot.agent(agent_id)
    assert row is not None
    return row


def lane_of(app: StokerApp, agent_id: str) -> str:
    return next(line for line in screen_lines(app) if f"{agent_id} " in line)


@EVERY_WAY
async def test_an_agent_is_paused_and_goes_on(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await do(pilot, how, "P", "Pause or resume agent")
        assert row_of(engine, DECODING).paused
        assert row_of(engine, DECODING).status is AgentStatus.QUEUED
        assert "‖ paused" in lane_of(app, DECODING)
        await do(pilot, how, "P", "Pause or resume agent")
        assert not row_of(engine, DECODING).paused
        assert "paused" not in lane_of(app, DECODING)
        assert toasts(app) == ["claude repo-a paused", "claude repo-a goes on"]


@EVERY_WAY
async def test_priority_goes_up_and_down_to_its_ends(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await do(pilot, how, "plus", "Raise agent's priority")
        assert row_of(engine, DECODING).priority == 1
        assert "▴claude repo-a" in screen_text(app)
        await do(pilot, how, "minus", "Lower agent's priority")
        assert row_of(engine, DECODING).priority == 0
        await pilot.press("minus", "minus", "minus")
        await pilot.pause()
        assert row_of(engine, DECODING).priority == MIN_PRIORITY
        assert "▾claude repo-a" in screen_text(app)
        assert "claude repo-a has the lowest priority already" in toasts(app)
        await pilot.press(*["plus"] * 5)
        await pilot.pause()
        assert row_of(engine, DECODING).priority == MAX_PRIORITY


@EVERY_WAY
async def test_the_batch_window_is_chosen(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await do(pilot, how, "W", "Change the batch window")
        assert isinstance(app.screen, ChoiceScreen)
        assert "10 ms   now" in screen_text(app)
        await pilot.press("down", "enter")
        await pilot.pause()
        assert engine.snapshot.batch.window_ms == 20.0
        assert toasts(app) == ["the batch window is 20 ms now"]
        await pilot.press("W", "escape")
        await pilot.pause()
        assert engine.snapshot.batch.window_ms == 20.0


@EVERY_WAY
async def test_an_eviction_is_undone(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT, "e", "y")
        await until(pilot, lambda: row_of(engine, IDLE).status is AgentStatus.WARM)
        assert toasts(app)[-1].endswith("u brings it back")
        await do(pilot, how, "u", "Undo the last eviction")
        assert row_of(engine, IDLE).status is AgentStatus.IDLE
        assert toasts(app)[-1] == "review-bot back in memory, 6,800 tokens; undone"
        await pilot.press("u")
        await pilot.pause()
        assert toasts(app)[-1] == "no eviction by hand can be undone"


async def test_all_idle_agents_come_back_at_once_and_older_evictions_after_them() -> None:
    async with dashboard("hostile") as (pilot, app, engine):
        before = [row.status for row in engine.snapshot.agents]
        await pilot.press("down", "e", "y")
        await until(pilot, lambda: len(toasts(app)) == 1)
        await pilot.press("E", "y")
        await until(pilot, lambda: len(toasts(app)) == 2)
        assert [row.status for row in engine.snapshot.agents] == [AgentStatus.WARM] * 10
        await pilot.press("u")
        await until(pilot, lambda: len(toasts(app)) == 3)
        assert toasts(app)[-1].startswith("9 agents back in memory")
        await pilot.press("u")
        await until(pilot, lambda: len(toasts(app)) == 4)
        assert [row.status for row in engine.snapshot.agents] == before


async def test_nothing_is_promised_where_the_disk_has_nothing() -> None:
    async with dashboard("disk_off") as (pilot, app, _):
        await pilot.press("down", "e", "y")
        await until(pilot, lambda: len(toasts(app)) == 1)
        assert "u brings it back" not in toasts(app)[0]
        await pilot.press("u")
        await pilot.pause()
        assert toasts(app)[-1] == "no eviction by hand can be undone"


async def test_what_is_lost_is_said_in_tokens_and_seconds() -> None:
    async with dashboard("disk_off") as (pilot, app, _):
        await pilot.press("E")
        await pilot.pause()
        assert "recompute at least 4,050 tokens, 9.8s at" in screen_text(app)
    async with dashboard() as (pilot, app, _):
        await pilot.press("x")
        await pilot.pause()
        assert "a reply of 110 tokens so far, 9." in " ".join(screen_text(app).split())


@EVERY_WAY
async def test_an_agents_id_is_copied(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("down")
        await do(pilot, how, "Y", "Copy agent's id")
        assert app.clipboard == "claude repo-a/2"


@EVERY_WAY
async def test_the_events_are_cleared_and_new_ones_shown(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        assert "review-bot pinned" in screen_text(app)
        await do(pilot, how, "ctrl+l", "Clear the events")
        assert "review-bot pinned" not in screen_text(app)
        assert "nothing has happened yet" in screen_text(app)
        await pilot.press("p")
        await until(pilot, lambda: "claude repo-a pinned" in screen_text(app))
        assert "review-bot pinned" not in screen_text(app)


@EVERY_WAY
async def test_the_state_is_saved_as_it_is_shown(how: str, tmp_path: Path) -> None:
    engine = ScriptedEngine(StillScene(SCENES["busy"]()))
    app = StokerApp(engine, address="127.0.0.1:8000", screenshot_folder=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "review-bot" in screen_text(app))
        await do(pilot, how, "S", "Save a snapshot")
        await until(pilot, lambda: len(toasts(app)) == 1)
        await pilot.press("S")
        await until(pilot, lambda: len(toasts(app)) == 2)
        first, second = sorted(tmp_path.iterdir(), key=lambda path: len(path.name))
        assert second.name == f"{first.stem}-2.json"
        assert first.stat().st_mode & 0o777 == 0o600
        assert from_json(json.loads(first.read_text())) == engine.snapshot


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    engine = ScriptedEngine(StillScene(SCENES["busy"]()))
    app = StokerApp(engine, address="a", screenshot_folder=tmp_path / "gone")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await until(pilot, lambda: len(toasts(app)) == 1)
        assert toasts(app)[0].startswith("cannot save a snapshot: ")


async def test_pauses_priorities_and_the_window_reach_an_engine_elsewhere() -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            await pilot.press("P")
            await until(pilot, lambda: toasts(app) == ["claude repo-a paused"])
            await pilot.press("plus")
            await until(pilot, lambda: len(toasts(app)) == 2)
            await pilot.press("W", "up", "enter")
            await until(pilot, lambda: len(toasts(app)) == 3)
            row = row_of(engine, DECODING)
            assert (row.paused, row.priority) == (True, 1)
            assert engine.snapshot.batch.window_ms == 5.0
            await until(pilot, lambda: "‖ paused" in screen_text(app))


def test_a_day_of_the_demo_pauses_an_agent_in_mid_turn() -> None:
    from engine.commands import PauseAgent
    from engine.scripted_world import DemoWorld

    now_s = [0.0]
    engine = ScriptedEngine(DemoWorld(), clock=lambda: now_s[0])
    engine.start()

    def at(second: float) -> EngineSnapshot:
        now_s[0] = second
        return engine.snapshot

    busy = next(s for s in range(5, 60) if _decoding(at(s)))
    (agent_id, *_) = _decoding(at(busy))
    engine.send(PauseAgent(agent_id=agent_id, paused=True))
    held = at(busy + 30).agent(agent_id)
    assert held is not None
    assert (held.status, held.paused) == (AgentStatus.QUEUED, True)
    engine.send(PauseAgent(agent_id=agent_id, paused=False))
    resumed = at(busy + 30.5).agent(agent_id)
    assert resumed is not None
    assert resumed.status is AgentStatus.DECODING
    assert resumed.num_generated_tokens >= held.num_generated_tokens


def _decoding(snapshot: EngineSnapshot) -> list[str]:
    return [r.agent_id for r in snapshot.agents if r.status is AgentStatus.DECODING]


@pytest.mark.parametrize("key", ["P", "plus", "minus", "W", "u", "e", "E", "D"])
async def test_read_only_carries_none_of_it_out(key: str) -> None:
    engine = scripted()
    before = engine.snapshot
    from app.dashboard.action import READ_ONLY

    app = StokerApp(engine, address="a", powers=READ_ONLY)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(key)
        await pilot.pause()
        assert engine.snapshot == before
        assert not isinstance(app.screen, ChoiceScreen)
