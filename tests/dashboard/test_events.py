"""Events and log from a user's view: levels, filter, log lines, looking back."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC

from textual.pilot import Pilot

from app.dashboard.app import StokerApp
from app.logs import LogRing
from engine.commands import Note
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from tests.dashboard.driving import dashboard, until
from tests.dashboard.screen_text import screen_text, toasts
from widgets.event_pane import EventsPane


@asynccontextmanager
async def many_events() -> AsyncIterator[tuple[Pilot[bool], StokerApp, ScriptedEngine, EventsPane]]:
    async with dashboard() as (pilot, app, engine):
        for number in range(30):
            level = ("info", "warning", "error")[number % 3]
            engine.send(Note(kind=f"kind{number % 2}", text=f"number {number:02d}.", level=level))
        pane = app.screen.query_one(EventsPane)
        pane.focus()
        await until(pilot, lambda: "number 29." in screen_text(app))
        yield pilot, app, engine, pane


async def test_levels_leave_out_what_matters_less() -> None:
    async with many_events() as (pilot, app, _, _pane):
        await pilot.press("v")
        await until(pilot, lambda: "number 27." not in screen_text(app))
        assert "number 28." in screen_text(app)
        assert "warnings and errors" in screen_text(app)
        await pilot.press("v")
        await until(pilot, lambda: "number 28." not in screen_text(app))
        assert "number 29." in screen_text(app)
        await pilot.press("v")
        await until(pilot, lambda: "number 27." in screen_text(app))


async def test_slash_filters_events_while_they_have_the_focus() -> None:
    async with many_events() as (pilot, app, _, _pane):
        await pilot.press("slash", *"KIND1")
        await until(pilot, lambda: "number 28." not in screen_text(app))
        assert "number 29." in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert "filter: KIND1" in screen_text(app)
        assert app.focused is _pane
        await pilot.press("escape")
        await until(pilot, lambda: "number 28." in screen_text(app))
        await pilot.press("slash", *"nothing like it")
        await until(pilot, lambda: "nothing passes the filter" in screen_text(app))


async def test_who_looks_back_keeps_the_place_while_things_happen() -> None:
    async with many_events() as (pilot, app, engine, _pane):
        await pilot.press(*["down"] * 10)
        await until(pilot, lambda: "number 19." in screen_text(app))
        assert "10 newer above" in screen_text(app)
        engine.send(Note(kind="new", text="one more"))
        await until(pilot, lambda: "11 newer above" in screen_text(app))
        assert "number 19." in screen_text(app)
        await pilot.press("G")
        await pilot.pause()
        assert "number 19." not in screen_text(app)
        await pilot.press("escape")
        await until(pilot, lambda: "one more" in screen_text(app))


async def test_log_lines_are_listed_among_events_on_demand() -> None:
    ring = LogRing()
    engine = ScriptedEngine(StillScene(SCENES["busy"]()), clock=lambda: 0.0)
    engine.start()
    app = StokerApp(engine, address="127.0.0.1:8000", zone=UTC, log=ring)
    record = logging.makeLogRecord(
        {"name": "stoker.disk", "msg": "a line \x1b[31m[b]of the log", "levelno": logging.WARNING}
    )
    record.levelname = "WARNING"
    ring.emit(record)
    async with app.run_test(size=(120, 40)) as pilot:
        app.screen.query_one(EventsPane).focus()
        await pilot.pause()
        assert "of the log" not in screen_text(app)
        await pilot.press("l")
        engine.send(Note(kind="new", text="something happened"))
        await until(pilot, lambda: r"a line \x1b[31m[b]of the log" in screen_text(app))
        assert "events and log" in screen_text(app)
        assert "disk" in screen_text(app)
        await pilot.press("l")
        await until(pilot, lambda: "of the log" not in screen_text(app))


async def test_an_engine_elsewhere_has_its_log_elsewhere() -> None:
    async with dashboard() as (pilot, app, _):
        app.screen.query_one(EventsPane).focus()
        await pilot.press("l")
        await until(pilot, lambda: any("own machine" in text for text in toasts(app)))
