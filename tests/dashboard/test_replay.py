"""A recording in the dashboard, by keys."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app.cli import main
from app.dashboard.action import RECORDED
from app.dashboard.app import StokerApp
from app.recording.recording import Recording
from app.recording.replay import Replay
from benchmarks.terminal import Terminal
from tests.dashboard.driving import until
from tests.dashboard.screen_text import screen_text, toasts
from tests.dashboard.test_screens import MEDIUM, SMALL, SnapCompare, _still_cursor
from tests.recording.test_recording import record


def replaying(folder: Path) -> tuple[StokerApp, Replay]:
    path = folder / "day.stoker-recording"
    record(path)
    replay = Replay(Recording(path), clock=lambda: 0.0)
    app = StokerApp(
        replay, address=path.name, clock=lambda: 0.0, zone=UTC, replay=replay, powers=RECORDED
    )
    app.animation_level = "none"
    return app, replay


@asynccontextmanager
async def played(folder: Path) -> AsyncIterator[tuple[Pilot[bool], StokerApp, Replay]]:
    app, replay = replaying(folder)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        yield pilot, app, replay


async def test_keys_move_about_in_it(tmp_path: Path) -> None:
    async with played(tmp_path) as (pilot, app, replay):
        await until(pilot, lambda: "replay 0:00/1:39 1x" in screen_text(app))
        await pilot.press("right", "right", "shift+right", "left", "plus")
        await until(pilot, lambda: "replay 1:10/1:39 2x" in screen_text(app))
        assert replay.snapshot.agents[0].agent_id in screen_text(app)
        await pilot.press("minus", "space")
        await until(pilot, lambda: "replay paused 1:10/1:39" in screen_text(app))
        await pilot.press("shift+left", "left", "left")
        await until(pilot, lambda: "replay paused 0:00/1:39" in screen_text(app))


async def test_nothing_is_offered_that_would_change_what_was(tmp_path: Path) -> None:
    async with played(tmp_path) as (pilot, app, _):
        await pilot.press("right", *"ewpfFIDxEoy")
        await pilot.pause(0.1)
        assert toasts(app) == []
        footer = screen_text(app).splitlines()[-1]
        assert "evict" not in footer
        assert "play or pause" in footer
        await pilot.press("q")
        await until(pilot, lambda: app._exit)


@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
@pytest.mark.parametrize("keys", [["right"] * 7, ["right"] * 7 + ["space"]], ids=["on", "held"])
def test_a_recorded_minute(
    snap_compare: SnapCompare, tmp_path: Path, keys: list[str], size: tuple[int, int]
) -> None:
    async def moved(pilot: Pilot[bool]) -> None:
        await _still_cursor(pilot)
        await pilot.press(*keys)
        await pilot.pause(0.6)

    app, _ = replaying(tmp_path)
    assert snap_compare(app, terminal_size=size, run_before=moved)


def test_it_plays_on_a_terminal_and_leaves_it_in_order(tmp_path: Path) -> None:
    path = tmp_path / "day"
    record(path)
    command = [sys.executable, "-m", "app.cli", "replay", str(path), "--speed", "20"]
    terminal = Terminal(command, {})
    terminal.wait_for("replay", 30)
    assert terminal.ask_to_end(signal.SIGTERM) == 0
    assert b"\x1b[?1049l" in terminal.output


@pytest.mark.parametrize("speed", ["0", "-1", "101", "nan"])
def test_a_speed_that_is_none(capsys: pytest.CaptureFixture[str], speed: str) -> None:
    assert main(["replay", "day", f"--speed={speed}"]) == 1
    assert capsys.readouterr().err == "stoker: --speed must be between 0.1 and 100\n"
