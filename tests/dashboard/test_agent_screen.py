"""The screen of one agent: its turns by key, forks, and what it says."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from app.dashboard.action import READ_ONLY
from app.dashboard.app import StokerApp
from app.dashboard.screenshots import still_app
from engine.agent_commands import AgentText, ReadAgent
from engine.commands import Command
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.snapshot import to_json
from tests.dashboard.attaching import attached, scripted, serving
from tests.dashboard.driving import REVIEW_BOT, dashboard, until
from tests.dashboard.screen_text import screen_text, toasts

SnapCompare = Callable[..., bool]
PREFILLING = ["down"]
SPEECH = "The test fails because the cache is read"
SIZES = pytest.mark.parametrize(
    "size", [(80, 24), (120, 40), (200, 60)], ids=["small", "medium", "large"]
)


async def settled(pilot: Pilot[Any]) -> None:
    await pilot.pause(0.3)


@SIZES
@pytest.mark.parametrize("page", [1, 2])
def test_pages(snap_compare: SnapCompare, page: int, size: tuple[int, int]) -> None:
    app, _ = still_app("busy")
    keys = [*REVIEW_BOT, "enter", *["tab"] * page, "j", "j"]
    assert snap_compare(app, press=keys, terminal_size=size, run_before=settled)


@SIZES
def test_an_agent_without_turns(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app, _ = still_app("hostile")
    assert snap_compare(app, press=["enter"], terminal_size=size, run_before=settled)


async def test_a_fork_goes_on_from_the_chosen_turn() -> None:
    async with dashboard() as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT, "enter", "j", "f")
        await until(pilot, lambda: len(toasts(app)) == 1)
        assert toasts(app) == ["review-bot forked after turn 30 as review-bot-fork-1"]
        assert engine.snapshot.agent("review-bot-fork-1") is not None


async def test_no_fork_starts_at_a_turn_in_progress_or_one_that_is_gone() -> None:
    async with dashboard() as (pilot, app, engine):
        before = engine.snapshot.agents
        await pilot.press(*PREFILLING, "enter", "f", "end", "f")
        await pilot.pause()
        assert toasts(app) == [
            "this turn is not over yet; choose one that is",
            "the end of turn 1 is not in memory or on disk any more",
        ]
        assert engine.snapshot.agents == before


async def test_a_watcher_is_offered_no_fork() -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url, powers=READ_ONLY) as (pilot, app, _):
            await pilot.press(*REVIEW_BOT, "enter", "j", "f")
            await pilot.pause(0.3)
            assert "fork here" not in screen_text(app)
            assert toasts(app) == []


async def test_the_changed_text_is_shown_beside_the_turn_that_paid_for_it() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press(*PREFILLING, "enter")
        await until(pilot, lambda: "+ Branch: cache-flush" in screen_text(app))
        text = screen_text(app)
        assert "- Branch: main" in text
        assert "lost: system changed at token 1012: 632 tokens, 1.5 s" in text


async def test_a_reply_is_hidden_until_a_key_shows_it_and_after_it_hides_it() -> None:
    heard: list[bool] = []

    class Listened(ScriptedEngine):
        def send(self, command: Command) -> None:
            if isinstance(command, ReadAgent):
                heard.append(command.with_reply)
            super().send(command)

    engine = Listened(StillScene(SCENES["busy"]()), clock=lambda: 0.0)
    engine.start()
    app = StokerApp(engine, address="127.0.0.1:8000")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "claude repo-a" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: "hidden; v shows it" in screen_text(app))
        await pilot.pause(0.7)
        assert SPEECH not in screen_text(app)
        assert set(heard) <= {False}
        await pilot.press("v")
        await until(pilot, lambda: SPEECH in screen_text(app))
        await pilot.press("v")
        await pilot.pause()
        assert SPEECH not in screen_text(app)
        heard.clear()
        await until(pilot, lambda: len(heard) > 0)
        assert set(heard) == {False}


async def test_a_reply_elsewhere_is_heard_and_is_in_no_snapshot_or_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = scripted()
    with serving(engine) as server, caplog.at_level(logging.DEBUG):
        async with attached(server.url) as (pilot, app, remote):
            await pilot.press("enter", "v")
            await until(pilot, lambda: SPEECH in screen_text(app))
            assert SPEECH not in json.dumps(to_json(remote.snapshot))
    assert SPEECH not in caplog.text


async def test_text_that_would_move_the_cursor_is_made_harmless() -> None:
    class Hostile(StillScene):
        def read(self, agent_id: str, *, with_reply: bool) -> AgentText:
            return AgentText(
                reply="\x1b[2Jgone\u202e\r\nnext [bold]line[/]" if with_reply else None
            )

    engine = ScriptedEngine(Hostile(SCENES["busy"]()), clock=lambda: 0.0)
    engine.start()
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            await pilot.press("enter", "v")
            await until(pilot, lambda: "next [bold]line[/]" in screen_text(app))
            text = screen_text(app)
            assert "\x1b" not in text
            assert "�[2Jgone�" in text
