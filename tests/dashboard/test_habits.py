"""How the dashboard was left is how it comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.dashboard.app import StokerApp
from app.dashboard.habits import Habits, HabitsFile
from app.dashboard.pane_layout import PaneLayout
from app.dashboard.screens.main import MainScreen
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from tests.dashboard.screen_text import screen_text
from widgets.agents import AgentsPane


def remembering(path: Path, theme: str | None = None) -> StokerApp:
    engine = ScriptedEngine(StillScene(SCENES["busy"]()), clock=lambda: 0.0)
    engine.start()
    return StokerApp(engine, address="127.0.0.1:8000", habits_path=path, theme=theme)


async def test_theme_order_layout_and_charts_come_back(tmp_path: Path) -> None:
    path = tmp_path / "data" / "dashboard.json"
    app = remembering(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("s", "b", "c")
        await pilot.press("tab", "H")
        await pilot.press("t", "down", "enter")
        await pilot.pause()
        assert "─ blocks " not in screen_text(app)
    app = remembering(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert app.theme == "stoker-light"
        assert "sort: agent" in text
        assert "─ blocks " not in text
        assert "─ throughput " in text
        screen = app.screen
        assert isinstance(screen, MainScreen)
        assert screen._span_s == 600
        await pilot.press("L", "enter")
        await pilot.pause()
        assert "by agent" in screen_text(app)


async def test_a_click_on_a_heading_is_remembered_as_well(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.json"
    app = remembering(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.click("Headings", offset=(45, 0))
        await pilot.pause()
        order = app.screen.query_one(AgentsPane).sort_by
    assert HabitsFile(path).load().sort_by == order != "activity"


async def test_a_theme_that_is_asked_for_counts_and_is_not_taken_for_a_habit(
    tmp_path: Path,
) -> None:
    path = tmp_path / "dashboard.json"
    HabitsFile(path).save(Habits(theme="stoker-light"))
    app = remembering(path, theme="stoker-ansi")
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.theme == "stoker-ansi"
        await pilot.press("s")
        await pilot.pause()
    assert HabitsFile(path).load().theme == "stoker-light"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[]",
        b"[" * 50_000,
        b'{"theme": 3, "sort_by": {}, "span_s": "1", "layout": [], "colour_by": 1}',
        b'{"theme": "gone", "sort_by": "gone", "span_s": 7, "layout": {"hidden": ["gone"]}}',
        b'{"layout": {"hidden": ["agents"], "wider": {"blocks": 1e9}, "taller": {"events": true}}}',
    ],
)
async def test_a_file_that_makes_no_sense_does_no_harm(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dashboard.json"
    path.write_bytes(content)
    app = remembering(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert app.theme == "stoker"
        assert "claude repo-a" in screen_text(app)
        await pilot.press("b")
        await pilot.pause()
    assert json.loads(path.read_text())["colour_by"] == "agent"


async def test_a_place_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    app = remembering(tmp_path / "file" / "dashboard.json")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("s", "b")
        await pilot.pause()
        assert "sort: agent" in screen_text(app)


def test_habits_come_back_as_they_were(tmp_path: Path) -> None:
    habits = Habits(
        theme="stoker-light",
        sort_by="ttft",
        span_s=3600,
        colour_by="tier",
        layout=PaneLayout(frozenset({"batch"}), {"blocks": 2}, {"events": -4}),
    )
    file = HabitsFile(tmp_path / "a" / "dashboard.json")
    file.save(habits)
    assert file.load() == habits
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["dashboard.json"]
    assert HabitsFile(None).load() == Habits()
