"""The way in and the way out."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.dashboard.app import StokerApp
from app.dashboard.screenshots import still_app
from engine.commands import Command, Shutdown
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.snapshot import EMPTY_SNAPSHOT, EngineStatus
from tests.dashboard.driving import until
from tests.dashboard.screen_text import screen_text, toasts

ROOT = Path(__file__).parents[2]


class StubbornEngine(ScriptedEngine):
    """Keeps on draining until it is told to stop at once."""

    def __init__(self) -> None:
        super().__init__(StillScene(SCENES["busy"]()), clock=lambda: 0.0)
        self.drains_s: list[float] = []

    def send(self, command: Command) -> None:
        if isinstance(command, Shutdown):
            self.drains_s.append(command.drain_s)
            if command.drain_s:
                return
        super().send(command)


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_a_second_time_leaves_at_once(key: str) -> None:
    engine = StubbornEngine()
    app = StokerApp(engine, address="127.0.0.1:8000")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press(key)
        await pilot.pause(0.3)
        assert not app._exit
        assert "draining" in toasts(app)[0]
        await pilot.press(key)
        await pilot.pause()
        assert app._exit
    assert engine.drains_s == [5.0, 0.0]
    assert app.return_value is False


async def test_ctrl_c_works_over_a_question_too() -> None:
    app, engine = still_app("busy")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("x", "ctrl+c")
        await until(pilot, lambda: app._exit)
    assert engine.snapshot.status is EngineStatus.STOPPED


async def test_the_engine_starts_after_the_first_paint() -> None:
    painted_before_start: list[str] = []

    class Watched(ScriptedEngine):
        def start(self) -> None:
            painted_before_start.append(screen_text(app))
            super().start()

    engine = Watched(StillScene(SCENES["busy"]()), clock=lambda: 0.0)
    app = StokerApp(engine, address="127.0.0.1:8000")
    assert engine.snapshot is EMPTY_SNAPSHOT
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "claude repo-a" in screen_text(app))
        assert len(painted_before_start) == 1
        assert "starting the engine" in painted_before_start[0]


def test_importing_the_dashboard_pulls_in_no_engine_room() -> None:
    program = (
        "import sys, app.demo; "
        "print([name for name in ('mlx', 'mlx_lm', 'fastapi', 'uvicorn', 'numpy', 'pydantic') "
        "if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout.strip() == "[]"


async def test_an_engine_that_failed_is_told_in_words() -> None:
    app, _ = still_app("failed")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        text = " ".join(screen_text(app).split())
        assert "✖ failed" in text
        assert "the download was cut off; remove it and start again" in text
        assert "reading weights" not in text


async def test_quitting_an_engine_that_failed_is_quick() -> None:
    app, _ = still_app("failed")
    started = time.monotonic()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    assert time.monotonic() - started < 5.0


async def test_it_opens_in_the_theme_it_is_given() -> None:
    _, engine = still_app("busy")
    app = StokerApp(engine, address="127.0.0.1:8000", theme="stoker-light")
    async with app.run_test(size=(80, 24)):
        assert app.current_theme.name == "stoker-light"
        assert not app.current_theme.dark
