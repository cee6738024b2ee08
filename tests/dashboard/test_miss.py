"""What the screen says of misses, of reads, and of agents with long names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from app.dashboard.app import StokerApp
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.snapshot import AgentRow, AgentStatus, MissCause, MissRow
from styles.tokens import UNICODE
from tests.dashboard.driving import REVIEW_BOT, dashboard
from tests.dashboard.screen_text import screen_lines, screen_text, toasts
from widgets.format import short_ids
from widgets.lanes import lane, layout_for

SESSION = "7f3a12bc-0d4e-4f6a-9b1c-2d3e4f5a6b7c"
WIDE, MEDIUM, NARROW = 200, 116, 76


def lane_text(row: AgentRow, width: int) -> str:
    return "".join(text for text, _ in lane(row, layout_for(width), UNICODE))


def row_with(miss: MissRow, **fields: object) -> AgentRow:
    return dataclasses.replace(AgentRow(agent_id="a", miss=miss), **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def screen_of(*agents: AgentRow) -> AsyncIterator[tuple[Pilot[bool], StokerApp]]:
    snapshot = dataclasses.replace(SCENES["busy"](), agents=agents)
    engine = ScriptedEngine(StillScene(snapshot), clock=lambda: 0.0)
    engine.start()
    app = StokerApp(engine, address="127.0.0.1:8000", clock=lambda: 0.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        yield pilot, app


SYSTEM = MissRow(
    num_hot_tokens=100,
    num_lost_tokens=5120,
    num_new_tokens=8,
    cause=MissCause.CHANGED_TEXT,
    changed_token=100,
    part="system",
    lost_s=11.2,
)


def test_a_lane_names_the_part_and_the_tokens_at_any_width() -> None:
    assert "system changed at token 100: 5120 tokens, 11 s" in lane_text(row_with(SYSTEM), WIDE)
    assert "system +5.1K" in lane_text(row_with(SYSTEM), MEDIUM)
    assert "5.1K" not in lane_text(row_with(SYSTEM), NARROW)


@pytest.mark.parametrize(
    ("part", "shown"), [("message 12 (assistant)", "messag… +5.1K"), ("", "prompt +5.1K")]
)
def test_a_narrow_lane_cuts_the_part_and_never_the_number(part: str, shown: str) -> None:
    assert shown in lane_text(row_with(dataclasses.replace(SYSTEM, part=part)), 111)


@pytest.mark.parametrize("cause", [MissCause.NONE, MissCause.FIRST_TURN])
def test_a_turn_without_a_loss_leaves_its_lane_calm(cause: MissCause) -> None:
    text = lane_text(row_with(MissRow(num_new_tokens=9, cause=cause)), WIDE)
    assert text.rstrip().endswith("-")


@pytest.mark.parametrize(
    ("width", "words"),
    [(WIDE, "reading 3,840 tokens from disk"), (111, "reading 3.8K"), (NARROW, "3.8K 0.20s")],
)
def test_a_restoring_lane_tells_what_is_read(width: int, words: str) -> None:
    row = row_with(MissRow(), status=AgentStatus.RESTORING, num_restoring_tokens=3840, eta_s=0.2)
    text = lane_text(row, width)
    assert words in text
    assert "restoring" in text
    assert "3.8K 0.20s" in text


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_detail_has_each_number_and_the_turns(size: tuple[int, int]) -> None:
    async with dashboard(size=size) as (pilot, app, _):
        await pilot.press("down", "enter")
        await pilot.pause()
        text = screen_text(app)
        for numbers in ("in memory +1,012 +28%", "lost +632 +18%", "from disk +0 +0%"):
            assert re.search(numbers, text)
        assert re.search(r"new +1,956 +54%", text)
        assert "3,600 tokens, first token after 0.44s" in text
        assert "changed text: 632 tokens again, 1.5s" in text
        assert "in system, from token 1,012 on" in text
        await pilot.press("tab", "down")
        await pilot.pause()
        lines = screen_lines(app)
        turns = [line for line in lines if re.search(r"11:5\d:\d\d   ", line)]
        assert [re.search(r"[○·] +(\d)", line)[1] for line in turns] == ["3", "2", "1"]  # type: ignore[index]
        assert "lost: message 4 (assistant)" in screen_text(app)


async def test_detail_tells_how_long_a_read_takes() -> None:
    async with dashboard("disk_off") as (pilot, app, _):
        await pilot.press("enter")
        await pilot.pause()
        assert "7,168 tokens from disk, 0.31s left" in screen_text(app)


async def test_throughput_tells_memory_from_disk() -> None:
    async with dashboard() as (_, app, _):
        line = next(line for line in screen_lines(app) if "reused" in line)
        assert re.search(r"hot +81% +disk +13%", line)


async def test_a_session_id_is_short_in_its_lane_and_whole_where_it_matters() -> None:
    row = AgentRow(agent_id=f"{SESSION}/sub", status=AgentStatus.IDLE, hot_bytes=1, num_turns=1)
    async with screen_of(row) as (pilot, app):
        assert "7f3a12bc/sub " in screen_text(app)
        assert SESSION not in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert f"{SESSION}/sub" in screen_text(app)
        await pilot.press("escape", "p")
        await pilot.pause()
        assert toasts(app) == [f"{SESSION}/sub pinned"]
        assert "7f3a12bc/sub pinned" in screen_text(app)  # the event


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (SESSION, "7f3a12bc"),
        (f"{SESSION}/a1", "7f3a12bc/a1"),
        (f"{SESSION}: evicted", "7f3a12bc: evicted"),
        (f"x{SESSION}", f"x{SESSION}"),
        (SESSION[:-1], SESSION[:-1]),
        ("repo-a", "repo-a"),
    ],
)
def test_short_ids(text: str, short: str) -> None:
    assert short_ids(text) == short


async def test_agents_of_one_name_under_two_keys_are_two() -> None:
    mine = AgentRow(agent_id="repo", status=AgentStatus.IDLE, hot_bytes=1, num_context_tokens=11)
    theirs = dataclasses.replace(mine, namespace="ana", num_context_tokens=22)
    async with screen_of(mine, theirs) as (pilot, app):
        assert "ana: repo" in screen_text(app)
        await pilot.press("down", "enter")
        await pilot.pause()
        assert "22 of" in screen_text(app)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hot_bytes": 5, "warm_bytes": 5}, "all of a is in memory already"),
        ({"status": AgentStatus.COLD}, "nothing of a is on disk"),
    ],
)
async def test_a_warm_with_nothing_to_bring_says_why(fields: dict[str, object], words: str) -> None:
    async with screen_of(row_with(MissRow(), **fields)) as (pilot, app):
        await pilot.press("w")
        await pilot.pause()
        assert toasts(app) == [words]


async def test_an_agent_that_can_be_evicted_keeps_its_history_in_sight() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press(*REVIEW_BOT, "enter")
        await pilot.pause()
        text = screen_text(app)
        assert re.search(r"· +28 ", text)
        assert re.search(r"○ +31 ", text)
