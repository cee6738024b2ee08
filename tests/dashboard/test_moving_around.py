"""Going about the screen: jumps, panes hidden and resized, presets, by keys and by mouse."""

from __future__ import annotations

import re

import pytest
from textual.pilot import Pilot

from app.dashboard.app import StokerApp
from app.dashboard.screens.jump import JumpScreen, Letter
from app.dashboard.screens.main import MainScreen
from tests.dashboard.driving import EVERY_WAY, dashboard, do
from tests.dashboard.screen_text import screen_lines, screen_text, toasts
from widgets.agents import AgentsPane
from widgets.lane_list import LaneList
from widgets.pane import Pane

TITLES = ("agents", "blocks", "throughput", "batch", "events")


def titles_shown(app: StokerApp) -> set[str]:
    return set(re.findall(r"╭─ (\w+)", screen_text(app)))


def selected(app: StokerApp) -> str:
    row = app.screen_stack[0].query_one(AgentsPane).selected
    assert row is not None
    return row.agent_id


def size_of(app: StokerApp, name: str) -> tuple[int, int]:
    return app.screen_stack[0].query_one(f"#{name}", Pane).outer_size


def letter_of(app: StokerApp, lane: str | None = None, pane: str = "agents") -> str:
    for letter in app.screen.query(Letter):
        target = letter.target
        if (target.lane[1] if target.lane else None, target.pane) == (lane, pane):
            return str(letter.visual).strip()
    raise AssertionError(f"no letter for {lane or pane}")


async def focus(pilot: Pilot[bool], name: str) -> None:
    pilot.app.screen.query_one(f"#{name}", Pane).focus()
    await pilot.pause()


@EVERY_WAY
async def test_a_letter_leads_to_an_agent(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        await do(pilot, how, "J", "Jump")
        assert isinstance(app.screen, JumpScreen)
        await pilot.press(letter_of(app, "opencode web"))
        await pilot.pause()
        assert selected(app) == "opencode web"
        assert isinstance(app.focused, LaneList)


async def test_a_letter_leads_to_a_pane_and_a_click_does_too() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("J")
        await pilot.pause()
        await pilot.press(letter_of(app, pane="throughput"))
        await pilot.pause()
        assert app.focused is not None
        assert app.focused.id == "throughput"
        await pilot.press("J")
        await pilot.pause()
        letter = next(each for each in app.screen.query(Letter) if each.target.pane == "events")
        await pilot.click(offset=letter.region.offset)
        await pilot.pause()
        assert app.focused is not None
        assert app.focused.id == "events"


async def test_another_key_and_escape_lead_nowhere() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("J", "5")
        await pilot.pause()
        assert isinstance(app.screen, JumpScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        assert selected(app) == "claude repo-a"


async def test_every_letter_is_where_its_place_is_and_no_two_are_alike() -> None:
    async with dashboard("overloaded", size=(80, 24)) as (pilot, app, _):
        await pilot.press(*["down"] * 25)  # scrolls
        before = screen_lines(app)
        await pilot.press("J")
        await pilot.pause()
        letters = [str(each.visual).strip() for each in app.screen.query(Letter)]
        assert len(letters) == len(set(letters)) > 10
        lanes = [each for each in app.screen.query(Letter) if each.target.lane]
        for letter in lanes:
            assert letter.target.lane is not None
            assert letter.target.lane[1] in before[letter.target.place.y]


@EVERY_WAY
async def test_a_pane_is_hidden_and_comes_back(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        await focus(pilot, "batch")
        await do(pilot, how, "H", "Hide pane")
        assert titles_shown(app) == set(TITLES) - {"batch"}
        assert size_of(app, "events")[0] == 120
        assert toasts(app) == ["batch is hidden; L brings it back"]
        await do(pilot, how, "L", "Choose layout")
        assert "bring back   batch" in screen_text(app)
        await pilot.press("end", "enter")
        await pilot.pause()
        assert titles_shown(app) == set(TITLES)


async def test_the_agents_are_not_hidden() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("H")
        await pilot.pause()
        assert titles_shown(app) == set(TITLES)
        assert toasts(app) == ["the agents stay; tab to another pane to hide it"]


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        (1, {"agents", "events"}),
        (2, {"agents", "blocks", "events"}),
        (3, {"agents", "throughput", "batch"}),
    ],
)
async def test_presets(steps: int, shown: set[str]) -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("L", *["down"] * steps, "enter")
        await pilot.pause()
        assert titles_shown(app) == shown
        lines = screen_lines(app)
        assert lines[-2].endswith("╯")  # no line is left over
        await pilot.press("L", "enter")
        await pilot.pause()
        assert titles_shown(app) == set(TITLES)


@EVERY_WAY
@pytest.mark.parametrize(
    ("key", "title", "axis", "sign"),
    [
        ("greater_than_sign", "Widen pane", 0, 1),
        ("less_than_sign", "Narrow pane", 0, -1),
        ("right_square_bracket", "Heighten pane", 1, 1),
        ("left_square_bracket", "Flatten pane", 1, -1),
    ],
)
async def test_panes_are_resized(how: str, key: str, title: str, axis: int, sign: int) -> None:
    async with dashboard() as (pilot, app, _):
        await focus(pilot, "blocks")
        before, beside = size_of(app, "blocks"), size_of(app, "throughput")
        await do(pilot, how, key, title)
        after = size_of(app, "blocks")
        assert (after[axis] - before[axis]) * sign > 0
        assert after[1 - axis] == before[1 - axis]
        if axis == 0:
            assert after[0] + size_of(app, "throughput")[0] == before[0] + beside[0]


async def test_a_pane_keeps_a_least_size_however_often_it_is_made_smaller() -> None:
    async with dashboard() as (pilot, app, _):
        await focus(pilot, "batch")
        await pilot.press(*["less_than_sign"] * 15, *["left_square_bracket"] * 15)
        await pilot.pause()
        width, height = size_of(app, "batch")
        assert width >= 20
        assert height >= 4
        assert titles_shown(app) == set(TITLES)


async def test_a_layout_survives_other_sizes_and_a_maximised_pane() -> None:
    async with dashboard() as (pilot, app, _):
        await focus(pilot, "throughput")
        await pilot.press("H")
        await focus(pilot, "blocks")
        await pilot.press("right_square_bracket")
        await pilot.pause()
        size = size_of(app, "blocks")
        await pilot.press("z")
        await pilot.pause()
        assert titles_shown(app) == {"blocks"}
        await pilot.press("z")
        await pilot.pause()
        assert size_of(app, "blocks") == size
        for width, height in ((80, 24), (200, 60), (120, 40)):
            await pilot.resize_terminal(width, height)
            await pilot.pause(0.1)
            shown = titles_shown(app)
            assert "throughput" not in shown
            assert ("blocks" in shown) == (width > 80)
        assert size_of(app, "blocks") == size


async def test_small_screens_say_why_nothing_moves() -> None:
    async with dashboard(size=(80, 24)) as (pilot, app, _):
        await pilot.press("greater_than_sign", "L")
        await pilot.pause()
        assert toasts(app) == ["there is room for one pane here; 1 to 6 show the others"] * 2
    async with dashboard() as (pilot, app, _):
        await pilot.press("z", "greater_than_sign")
        await pilot.pause()
        assert toasts(app) == ["this pane has all the room; z puts the others back"]


async def test_h_and_l_go_through_the_panes() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("l")
        assert app.focused is not None
        assert app.focused.id == "blocks"
        # In the map itself they point at blocks, as the arrows do.
        await pilot.press("tab", "h")
        assert app.focused.id == "blocks"


async def test_the_palette_is_a_click_away_on_a_small_screen() -> None:
    async with dashboard(size=(80, 24)) as (pilot, app, _):
        line = screen_lines(app)[-1]
        await pilot.click("KeyBar", offset=(line.index(": palette"), 0))
        await pilot.pause()
        assert "CommandPalette" in type(app.screen).__name__
