"""The disk tier on the screen: what is there, goes there and comes back, and when it is off."""

from __future__ import annotations

import dataclasses
import re

import pytest

from app.dashboard.app import StokerApp
from app.dashboard.screens.main import MainScreen
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import busy
from engine.scripted_still import StillScene
from engine.snapshot import AgentStatus, BlockState, DiskRow, EngineSnapshot
from tests.dashboard.driving import BOTH_WAYS, REVIEW_BOT, dashboard, do
from tests.dashboard.screen_text import screen_lines, screen_text, toasts


def lane_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if f" {name} " in line)


async def text_of(snapshot: EngineSnapshot, size: tuple[int, int] = (120, 40)) -> str:
    engine = ScriptedEngine(StillScene(snapshot), clock=lambda: 0.0)
    engine.start()
    app = StokerApp(engine, address="127.0.0.1:8000", clock=lambda: 0.0)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        return screen_text(app)


async def test_lanes_say_where_a_cache_is() -> None:
    async with dashboard() as (_, app, _engine):
        on_disk = lane_of(screen_text(app), "nightly")
        assert "◇ on disk        2h01m" in on_disk
        assert "   -  342M " in on_disk  # nothing in memory, all on disk
        assert " 97%◇" in on_disk  # its last turn read from disk
        assert "319M  319M" in lane_of(screen_text(app), "review-bot")
        assert " 98%  " in lane_of(screen_text(app), "claude repo-a")


async def test_a_restoring_lane_says_so() -> None:
    async with dashboard("disk_off", (80, 24)) as (_, app, _engine):
        assert "● restoring " in lane_of(screen_text(app), "nightly")


@pytest.mark.parametrize("size", [(100, 40), (120, 40), (200, 60)])
async def test_the_header_has_a_disk_bar(size: tuple[int, int]) -> None:
    async with dashboard(size=size) as (_, app, _engine):
        line = screen_lines(app)[1]
        assert "disk ╸" in line or "disk ━" in line
        assert "1.2G/20G" in line
        assert "waiting  1" in line


async def test_without_a_disk_tier_nothing_is_said_of_it() -> None:
    text = await text_of(dataclasses.replace(busy(), disk=DiskRow()))
    assert "disk" not in text.splitlines()[1]


@pytest.mark.parametrize(
    ("size", "line", "words"),
    [
        ((80, 24), 0, "▲ disk off"),
        ((120, 40), 1, "disk off: no space"),
        ((200, 60), 1, "disk off: no space left on the disk"),
    ],
)
async def test_a_disk_that_is_off_is_said_at_every_size(
    size: tuple[int, int], line: int, words: str
) -> None:
    async with dashboard("disk_off", size) as (_, app, _engine):
        assert words in screen_lines(app)[line]
        assert "off: no space left on the disk" in screen_text(app)  # the event


async def test_the_model_pane_has_the_whole_reason_and_the_damage() -> None:
    async with dashboard("disk_off", (80, 24)) as (pilot, app, _):
        await pilot.press("6")
        await pilot.pause()
        text = screen_text(app)
        assert "18G of 20G in 1.6K blocks" in text
        assert "off: no space left on the disk; it is tried again every 30 s" in text
        assert "1 damaged file set aside" in text


async def test_blocks_to_write_are_marked_and_counted_only_while_there_are_any() -> None:
    text = await text_of(busy())
    assert "░ unsaved 3" in text
    assert "5 to write" in text
    clean_states = busy().pool.block_states.replace(
        bytes([BlockState.DIRTY]), bytes([BlockState.HOT])
    )
    pool = dataclasses.replace(busy().pool, block_states=clean_states)
    disk = dataclasses.replace(busy().disk, num_pending=0)
    text = await text_of(dataclasses.replace(busy(), pool=pool, disk=disk))
    assert "unsaved" not in text
    assert "to write" not in text


@BOTH_WAYS
async def test_warm_brings_a_cache_back(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await pilot.press("end")
        await do(pilot, how, "w", "Warm agent")
        row = engine.snapshot.agent("nightly")
        assert row is not None
        assert (row.status, row.hot_bytes) == (AgentStatus.IDLE, row.warm_bytes)
        assert toasts(app) == ["nightly is in memory, 7,420 tokens"]
        assert "342M  342M" in lane_of(screen_text(app), "nightly")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "claude repo-a has a turn in progress"),
        (REVIEW_BOT, "all of review-bot is in memory already"),
    ],
)
async def test_warm_says_why_it_does_nothing(keys: list[str], words: str) -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press(*keys, "w")
        await pilot.pause()
        assert toasts(app) == [words]


@BOTH_WAYS
async def test_fork_names_the_new_agent(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT)
        await do(pilot, how, "f", "Fork agent")
        assert toasts(app) == ["review-bot forked as review-bot-fork-1"]
        row = engine.snapshot.agent("review-bot-fork-1")
        assert row is not None
        assert row.num_context_tokens == 6800
        assert "agents 7" in screen_text(app)


async def test_a_busy_agent_is_not_forked_and_the_reason_is_said() -> None:
    async with dashboard() as (pilot, app, engine):
        await pilot.press("f")
        await pilot.pause()
        assert "while it has a turn in progress" in toasts(app)[0]
        assert len(engine.snapshot.agents) == 6


async def test_evicting_what_is_on_disk_loses_nothing_and_is_asked_so() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press(*REVIEW_BOT, "e")
        await pilot.pause()
        text = " ".join(screen_text(app).replace("│", " ").split())
        assert "Nothing is lost. It stays on disk: its next turn reads" in text
        assert "130M back." in text  # 319M less the 189M that stay in memory
        assert "recomputes" not in text
        await pilot.press("y")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        assert "◇ on disk" in lane_of(screen_text(app), "review-bot")


async def test_evicting_what_is_half_on_disk_recomputes_the_other_half() -> None:
    async with dashboard("disk_off") as (pilot, app, _):
        await pilot.press("down", "down", "e")
        await pilot.pause()
        text = screen_text(app)
        assert "recomputes 1,280 tokens, 3.1s at best" in text
        assert "reads 59M back" in text


async def test_evicting_all_idle_agents_sums_up() -> None:
    async with dashboard("hostile") as (pilot, app, _):
        await pilot.press("E")
        await pilot.pause()
        text = screen_text(app)
        assert "Nothing is lost." in text
        assert "read 472M" in text  # ten agents of four blocks
    async with dashboard("disk_off") as (pilot, app, _):
        await pilot.press("E")
        await pilot.pause()
        text = screen_text(app)
        assert "recompute at least 4,050 tokens" in text  # 2,770 and 1,280
        assert "59M back" in text


async def test_detail_tells_memory_from_disk() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("end", "enter")
        await pilot.pause()
        text = screen_text(app)
        assert re.search(r"in memory +0 .*\n.*from disk +7,168 +97%", text)
        assert "its cache is on disk; the next turn reads it back" in text
