"""Every pane and screen, as it looks at three sizes; the clock stands still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from app.dashboard.actions import PANE_KEYS
from app.dashboard.screenshots import demo_app, still_app
from styles.theme_names import THEME_WORDS

SnapCompare = Callable[..., bool]
SMALL, MEDIUM, LARGE = (80, 24), (120, 40), (200, 60)
SIZES = pytest.mark.parametrize("size", [SMALL, MEDIUM, LARGE], ids=["small", "medium", "large"])


async def _still_cursor(pilot: Pilot[Any]) -> None:
    await pilot.pause()
    for line in pilot.app.screen.query(Input):
        line.cursor_blink = False
    await pilot.pause()


@SIZES
@pytest.mark.parametrize("scene", ["busy", "empty", "overloaded"])
def test_main_screen(snap_compare: SnapCompare, scene: str, size: tuple[int, int]) -> None:
    app, _ = still_app(scene)
    assert snap_compare(app, terminal_size=size, run_before=_still_cursor)


@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
@pytest.mark.parametrize("scene", ["loading", "failed", "hostile", "many_blocks", "disk_off"])
def test_rare_states(snap_compare: SnapCompare, scene: str, size: tuple[int, int]) -> None:
    app, _ = still_app(scene)
    assert snap_compare(app, terminal_size=size, run_before=_still_cursor)


@SIZES
@pytest.mark.parametrize(("key", "pane"), PANE_KEYS)
def test_one_pane_alone(
    snap_compare: SnapCompare, key: str, pane: str, size: tuple[int, int]
) -> None:
    app, _ = demo_app()
    assert snap_compare(app, press=[key], terminal_size=size, run_before=_still_cursor)


@SIZES
@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(["question_mark"], id="help"),
        pytest.param(["down", "down", "down", "down", "e"], id="confirm"),
        pytest.param(["down", "enter"], id="detail"),
        pytest.param(["J"], id="jump"),
    ],
)
def test_screens_over_the_main_one(
    snap_compare: SnapCompare, keys: list[str], size: tuple[int, int]
) -> None:
    app, _ = still_app("busy")
    assert snap_compare(app, press=keys, terminal_size=size, run_before=_still_cursor)


def test_many_agents_at_work_with_charts(snap_compare: SnapCompare) -> None:
    app, _ = demo_app()
    assert snap_compare(app, terminal_size=MEDIUM, run_before=_still_cursor)


@pytest.mark.parametrize("num_presses", [1, 2], ids=["agent", "tier"])
def test_blocks_coloured_by(snap_compare: SnapCompare, num_presses: int) -> None:
    app, _ = still_app("many_blocks")
    keys = ["b"] * num_presses
    assert snap_compare(app, press=keys, terminal_size=MEDIUM, run_before=_still_cursor)


def test_ascii_marks_only(snap_compare: SnapCompare) -> None:
    app, _ = still_app("busy", plain_glyphs=True)
    assert snap_compare(app, terminal_size=MEDIUM, run_before=_still_cursor)


@pytest.mark.parametrize("theme", THEME_WORDS)
def test_themes(snap_compare: SnapCompare, theme: str) -> None:
    app, _ = still_app("busy")
    app.theme = theme
    assert snap_compare(app, terminal_size=MEDIUM, run_before=_still_cursor)


def test_without_colour(snap_compare: SnapCompare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app, _ = still_app("busy")
    assert snap_compare(app, terminal_size=MEDIUM, run_before=_still_cursor)


@pytest.mark.parametrize("size", [MEDIUM, LARGE], ids=["medium", "large"])
@pytest.mark.parametrize("steps", [1, 2, 3], ids=["agents", "cache", "speed"])
def test_presets(snap_compare: SnapCompare, steps: int, size: tuple[int, int]) -> None:
    app, _ = demo_app()
    keys = ["L", *["down"] * steps, "enter"]
    assert snap_compare(app, press=keys, terminal_size=size, run_before=_still_cursor)


def test_marks_of_paused_and_preferred_agents(snap_compare: SnapCompare) -> None:
    app, _ = still_app("busy")

    async def marked(pilot: Pilot[Any]) -> None:
        await pilot.press("P", "plus", "down", "minus", "down", "down", "down", "P")
        await _still_cursor(pilot)
        pilot.app.clear_notifications()
        await pilot.pause(0.3)

    assert snap_compare(app, terminal_size=MEDIUM, run_before=marked)


def test_filter_line(snap_compare: SnapCompare) -> None:
    app, _ = still_app("busy")

    async def filtered(pilot: Pilot[Any]) -> None:
        await _still_cursor(pilot)
        await pilot.press("slash", "c", "l", "a")
        await pilot.pause()

    assert snap_compare(app, terminal_size=MEDIUM, run_before=filtered)
