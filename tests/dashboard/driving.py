"""A dashboard to drive as a person does: by keys, by the palette, and by the mouse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from app.dashboard.actions import ACTIONS
from app.dashboard.app import StokerApp
from app.dashboard.screens.help import HelpScreen
from app.dashboard.screenshots import still_app
from engine.scripted import ScriptedEngine
from tests.dashboard.screen_text import screen_lines

REVIEW_BOT = ["down"] * 4
"""Keys that select the idle agent of the busy scene."""


@asynccontextmanager
async def dashboard(
    scene: str = "busy", size: tuple[int, int] = (120, 40)
) -> AsyncIterator[tuple[Pilot[bool], StokerApp, ScriptedEngine]]:
    app, engine = still_app(scene)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield pilot, app, engine


async def by_palette(pilot: Pilot[bool], title: str) -> None:
    """Runs an action as a person does who knows its name."""
    await pilot.press("colon")
    await pilot.pause()
    palette = pilot.app.screen
    palette.query_one(Input).value = title.lower()
    await until(pilot, lambda: palette.query_one(OptionList).option_count > 0)
    await pilot.press("enter")
    await until(pilot, lambda: pilot.app.screen is not palette)
    await pilot.pause()


async def by_mouse(pilot: Pilot[bool], title: str) -> None:
    """Runs an action by a click on its line of the help page."""
    (action,) = [each for each in ACTIONS if each.title == title]
    await pilot.press("question_mark")
    await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
    for _ in range(8):
        await pilot.pause()
        for y, line in enumerate(screen_lines(pilot.app)):
            x = line.find(action.help[:36])
            if x >= 0:
                await pilot.click(offset=(x, y))
                await until(pilot, lambda: not isinstance(pilot.app.screen, HelpScreen))
                return
        await pilot.press("pagedown")
    pytest.fail(f"{title} is not on the help page")


async def until(pilot: Pilot[bool], holds: Callable[[], bool]) -> None:
    """Waits until something holds, for ten seconds at most."""
    for _ in range(400):
        if holds():
            return
        await pilot.pause(0.025)
    pytest.fail("it never came to hold")


async def do(pilot: Pilot[bool], how: str, key: str, title: str) -> None:
    if how == "key":
        await pilot.press(key)
    elif how == "mouse":
        await by_mouse(pilot, title)
    else:
        await by_palette(pilot, title)
    await pilot.pause()


BOTH_WAYS = pytest.mark.parametrize("how", ["key", "palette"])
EVERY_WAY = pytest.mark.parametrize("how", ["key", "palette", "mouse"])
