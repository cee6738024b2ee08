"""Agents that leave, come back, go and fork, as a person does it at the dashboard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from app.dashboard.app import StokerApp
from app.dashboard.screens.choice import ChoiceScreen
from app.dashboard.screens.confirm import ConfirmScreen
from app.dashboard.screens.main import MainScreen
from app.dashboard.screenshots import still_app
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.scripted_world import DemoWorld
from engine.snapshot import AgentStatus
from tests.dashboard.driving import BOTH_WAYS, REVIEW_BOT, do, until
from tests.dashboard.screen_text import screen_text, toasts
from tests.dashboard.test_screens import MEDIUM, SMALL, SnapCompare, _still_cursor


@asynccontextmanager
async def dashboard(
    exports: Path, scene: str = "busy"
) -> AsyncIterator[tuple[Pilot[bool], StokerApp, ScriptedEngine]]:
    engine = ScriptedEngine(StillScene(SCENES[scene]()), clock=lambda: 0.0)
    engine.start()
    app = StokerApp(
        engine, address="127.0.0.1:8000", clock=lambda: 0.0, zone=UTC, exports_folder=exports
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        yield pilot, app, engine


@BOTH_WAYS
async def test_an_agent_is_exported_and_the_toast_says_where(how: str, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    async with dashboard(exports) as (pilot, app, _):
        await pilot.press(*REVIEW_BOT)
        for name in ("review-bot", "review-bot-2"):
            await do(pilot, how, "o", "Export agent")
            path = exports / f"{name}.stoker-agent"
            assert path.is_file()
            assert toasts(app)[-1].startswith("review-bot exported, ")
            assert toasts(app)[-1].endswith(f" in {path}")


@BOTH_WAYS
async def test_an_exported_agent_is_removed_and_imported_again(how: str, tmp_path: Path) -> None:
    async with dashboard(tmp_path) as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT, "o")
        await do(pilot, how, "D", "Remove agent")
        await pilot.press("y")
        await pilot.pause()
        assert engine.snapshot.agent("review-bot") is None
        assert "review-bot removed, 130M freed" in toasts(app)
        await do(pilot, how, "I", "Import agent")
        assert isinstance(app.screen, ChoiceScreen)
        assert "review-bot " in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        row = engine.snapshot.agent("review-bot")
        assert row is not None
        assert (row.status, row.num_context_tokens) == (AgentStatus.WARM, 6800)
        assert toasts(app)[-1] == "review-bot imported, 6,800 tokens on disk"


async def test_removing_asks_and_names_what_is_lost(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT, "delete")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmScreen)
        text = " ".join(screen_text(app).replace("│", " ").split())
        assert "Remove review-bot?" in text
        assert "lost in memory and on disk: 6,800 tokens" in text
        assert "189M is shared with other agents and stays." in text
        assert "It is pinned" in text
        await pilot.press("enter")
        await pilot.pause()
        assert engine.snapshot.agent("review-bot") is not None


async def test_a_busy_agent_is_neither_removed_nor_exported(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as (pilot, app, _):
        await pilot.press("D")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        assert toasts(app) == ["claude repo-a has a turn in progress; x aborts it"]
        await pilot.press("o")
        await pilot.pause()
        assert "cannot export 'claude repo-a' while it has a turn" in toasts(app)[-1]
        assert list(tmp_path.iterdir()) == []


async def test_there_is_nothing_to_import_and_it_is_said_where(tmp_path: Path) -> None:
    async with dashboard(tmp_path / "none") as (pilot, app, _):
        await pilot.press("I")
        await pilot.pause()
        assert toasts(app) == [f"there is no exported agent in {tmp_path / 'none'}"]


async def test_what_is_no_agent_is_refused_and_an_agent_that_is_here_too(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as (pilot, app, _):
        await pilot.press(*REVIEW_BOT, "o", "I", "enter")
        await pilot.pause()
        assert "there is an agent 'review-bot' already" in toasts(app)[-1]
        (tmp_path / "review-bot.stoker-agent").write_text("[b]")
        await pilot.press("I", "enter")
        await pilot.pause()
        assert toasts(app)[-1] == "review-bot.stoker-agent holds no scripted agent"


@BOTH_WAYS
async def test_a_fork_goes_back_to_the_turn_that_is_chosen(how: str, tmp_path: Path) -> None:
    async with dashboard(tmp_path) as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT)
        await do(pilot, how, "F", "Fork agent at a turn")
        text = screen_text(app)
        assert "Fork review-bot after which turn?" in text
        assert "turn 31" in text
        assert "turn 28" not in text  # neither in memory nor on disk
        await pilot.press("down", "enter")
        await until(pilot, lambda: bool(toasts(app)))
        assert toasts(app) == ["review-bot forked after turn 30 as review-bot-fork-1"]
        row = engine.snapshot.agent("review-bot-fork-1")
        assert row is not None
        assert row.num_context_tokens == 6410


async def test_a_choice_can_be_left(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT, "F", "escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        await pilot.press("home", "F")
        await pilot.pause()
        assert toasts(app) == ["no turn of claude repo-a is in memory or on disk"]
        assert len(engine.snapshot.agents) == 6


async def test_an_eviction_says_what_stays_on_disk(tmp_path: Path) -> None:
    async with dashboard(tmp_path, "disk_off") as (pilot, app, _):
        await pilot.press("down", "down", "e", "y")
        await pilot.pause()
        assert "tokens stay on disk" in toasts(app)[-1]


def test_the_demo_can_do_all_of_it(tmp_path: Path) -> None:
    world = DemoWorld()
    world.advance(120.0)
    rows = world.advance(120.1).agents
    agent = next(row for row in rows if row.status is AgentStatus.IDLE and row.turns)
    turn = agent.turns[-1]
    path = tmp_path / "a.stoker-agent"
    exported = world.export(agent.agent_id, path)
    assert exported.num_tokens == agent.num_context_tokens
    assert world.fork(agent.agent_id, "back", turn.number) == "back"
    world.remove(agent.agent_id)
    assert world.take_in(path, None).agent_id == agent.agent_id
    after = world.advance(120.2)
    back, again = after.agent("back"), after.agent(agent.agent_id)
    assert back is not None
    assert back.num_context_tokens == turn.num_context_tokens
    assert again is not None
    assert again.status is AgentStatus.WARM
    world.advance(400.0)


@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
@pytest.mark.parametrize("key", ["F", "D"], ids=["choice", "remove"])
def test_screens(snap_compare: SnapCompare, key: str, size: tuple[int, int]) -> None:
    app, _ = still_app("busy")

    async def shown(pilot: Pilot[Any]) -> None:
        await _still_cursor(pilot)
        await pilot.press(*REVIEW_BOT, key)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=shown)
