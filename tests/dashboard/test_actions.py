"""What keys, clicks and the palette do to the engine and to the screen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.dashboard.action import LIVE, READ_ONLY, RECORDED
from app.dashboard.actions import ACTIONS, bindings, key_hints, offered
from app.dashboard.app import StokerApp
from app.dashboard.screens.choice import ChoiceScreen
from app.dashboard.screens.confirm import ConfirmScreen
from app.dashboard.screens.detail import DetailScreen
from app.dashboard.screens.help import HelpScreen
from app.dashboard.screens.main import MainScreen
from app.dashboard.screenshots import still_app
from engine.agent_commands import EvictAgent, Eviction
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.snapshot import AgentRow, AgentStatus
from styles.tokens import UNICODE
from tests.dashboard.driving import BOTH_WAYS, REVIEW_BOT, dashboard, do, until
from tests.dashboard.screen_text import screen_text, toasts
from widgets.agents import SORT_KEYS, AgentsPane
from widgets.block_map import BlockMapPane

DECODING, IDLE = "claude repo-a", "review-bot"


@BOTH_WAYS
async def test_evict_asks_and_then_drops_the_cache(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT)
        await do(pilot, how, "e", "Evict agent")
        assert isinstance(app.screen, ConfirmScreen)
        assert engine.snapshot.agent(IDLE).status is AgentStatus.IDLE  # type: ignore[union-attr]
        await pilot.press("y")
        await pilot.pause()
        row = engine.snapshot.agent(IDLE)
        assert row is not None
        assert row.status is AgentStatus.WARM
        assert "on disk  " in screen_text(app)
        assert any("review-bot evicted, 130M freed" in text for text in toasts(app))


async def test_confirm_says_what_is_lost_in_tokens() -> None:
    async with dashboard("disk_off") as (pilot, app, _):
        await pilot.press("p", "down", "p", "e")
        await pilot.pause()
        text = screen_text(app)
        assert "Evict the cache of review-bot?" in text
        assert "recomputes 2,770 tokens, 6.7s at best" in text  # 11 of 27 blocks are its own
        assert "189M is shared with other agents and stays" in text
        assert "It is pinned" in text


@pytest.mark.parametrize("answer", ["n", "escape", "enter", "q"])
async def test_every_safe_answer_keeps_the_cache(answer: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await pilot.press(*REVIEW_BOT, "e")
        await pilot.pause()
        await pilot.press(answer)
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        row = engine.snapshot.agent(IDLE)
        assert row is not None
        assert row.status is AgentStatus.IDLE


async def test_a_busy_agent_is_not_evicted_and_the_reason_is_said() -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("e")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        assert toasts(app) == ["claude repo-a has a turn in progress; x aborts it"]


async def test_a_refusal_by_the_engine_is_shown() -> None:
    async with dashboard() as (pilot, app, _):
        screen = app.screen
        assert isinstance(screen, MainScreen)
        screen._dispatch.evict(AgentRow(agent_id="[b]nobody[/b]"))
        await pilot.pause()
        assert toasts(app) == ["no agent '[b]nobody[/b]'"]


@BOTH_WAYS
async def test_evict_idle_spares_pinned_and_busy_agents(how: str) -> None:
    async with dashboard("hostile") as (pilot, app, engine):
        await pilot.press("p")
        await pilot.pause()
        await do(pilot, how, "E", "Evict all idle agents")
        assert "9 idle agents" in screen_text(app)
        await pilot.press("y")
        await pilot.pause()
        statuses = [row.status for row in engine.snapshot.agents]
        assert statuses == [AgentStatus.IDLE] + [AgentStatus.WARM] * 9


@BOTH_WAYS
async def test_pin_and_unpin(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        for pinned in (True, False):
            await do(pilot, how, "p", "Pin or unpin agent")
            row = engine.snapshot.agent(DECODING)
            assert row is not None
            assert row.pinned is pinned
        assert toasts(app) == ["claude repo-a pinned", "claude repo-a unpinned"]


@BOTH_WAYS
async def test_abort_asks_and_then_ends_the_turn(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await do(pilot, how, "x", "Abort agent's turn")
        assert "loses a reply of 110 tokens so far" in screen_text(app)
        await pilot.press("y")
        await pilot.pause()
        row = engine.snapshot.agent(DECODING)
        assert row is not None
        assert row.status is AgentStatus.IDLE
        assert toasts(app) == ["1 turn of claude repo-a aborted"]
        assert engine.snapshot.events[-1].kind == "abort"


async def test_the_screen_does_not_wait_for_the_engine() -> None:
    app, engine = still_app("busy")
    held: list[EvictAgent] = []
    engine.send = held.append  # type: ignore[assignment, method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(*REVIEW_BOT, "e", "y")
        await pilot.press("up", "s")
        await pilot.pause()
        assert app.screen.query_one(AgentsPane).sort_by == "agent"
        assert toasts(app) == []
        eviction = Eviction(freed_bytes=130_000_000)
        await asyncio.to_thread(held[0].done.set_result, eviction)
        await until(pilot, lambda: toasts(app) == ["review-bot evicted, 130M freed"])


@BOTH_WAYS
async def test_pause_freezes_the_display_and_not_the_engine(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await do(pilot, how, "space", "Pause or resume the display")
        assert "display paused" in screen_text(app)
        await pilot.press("p")
        await pilot.pause(0.3)
        row = engine.snapshot.agent(DECODING)
        assert row is not None
        assert row.pinned
        assert "claude repo-a pinned" not in screen_text(app)
        await pilot.press("space")
        await pilot.pause()
        text = screen_text(app)
        assert "display paused" not in text
        assert "claude repo-a pinned" in text


@BOTH_WAYS
async def test_filter_while_typing_keep_and_clear(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        await do(pilot, how, "slash", "Filter agents")
        await pilot.press(*"code")
        await pilot.pause()
        assert "2 of 6" in screen_text(app)  # codex, opencode
        await pilot.press("enter")
        await pilot.pause()
        assert app.focused is not None
        assert app.focused.__class__.__name__ == "LaneList"
        assert "filter: code" in screen_text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "filter:" not in screen_text(app)


@BOTH_WAYS
async def test_sort_goes_through_the_orders_and_the_cursor_stays_on_its_agent(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        pane = app.screen.query_one(AgentsPane)
        await do(pilot, how, "s", "Sort agents")
        assert pane.sort_by == "agent"
        await do(pilot, how, "s", "Sort agents")
        assert pane.sort_by == "state"
        await do(pilot, how, "s", "Sort agents")
        assert pane.sort_by == "context"
        lines = [line for line in screen_text(app).splitlines() if "/8K" in line]
        names = [line[6:22].strip() for line in lines]
        assert names[0] == "nightly"
        assert names[-1] == "codex 7f31"
        assert pane.selected is not None
        assert pane.selected.agent_id == DECODING


async def test_a_key_reaches_the_order_of_every_column() -> None:
    async with dashboard() as (pilot, app, _):
        pane = app.screen.query_one(AgentsPane)
        orders = []
        for _ in range(len(SORT_KEYS) + 1):
            await pilot.press("s")
            orders.append(pane.sort_by)
        assert orders == [*SORT_KEYS, "activity"]


async def test_a_click_on_a_heading_sorts_and_a_second_one_undoes_it() -> None:
    async with dashboard() as (pilot, app, _):
        pane = app.screen.query_one(AgentsPane)
        line = next(text for text in screen_text(app).splitlines() if "tok/s   ttft" in text)
        at = line.index("ttft") - pane.region.x - 2
        await pilot.click("Headings", offset=(at, 0))
        assert pane.sort_by == "ttft"
        await pilot.click("Headings", offset=(at, 0))
        assert pane.sort_by == "activity"


async def test_keys_and_mouse_select_agents() -> None:
    async with dashboard() as (pilot, app, _):
        pane = app.screen.query_one(AgentsPane)

        def selected() -> str:
            assert pane.selected is not None
            return pane.selected.agent_id

        await pilot.press("j", "j", "k")
        assert selected() == "claude repo-a/2"
        await pilot.press("G")
        assert selected() == "nightly"
        await pilot.press("g", "down")
        assert selected() == "claude repo-a/2"
        await pilot.click("LaneList", offset=(10, 2))
        assert selected() == "codex 7f31"
        await pilot.click("LaneList", offset=(10, 3), times=2)
        await pilot.pause()
        assert isinstance(app.screen, DetailScreen)


@BOTH_WAYS
async def test_detail_explains_the_last_turn(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        await pilot.press("down")
        await do(pilot, how, "enter", "Agent detail")
        text = screen_text(app)
        assert "changed text: 632 tokens again, 1.5s" in text
        assert "in system, from token 1,012 on" in text
        assert "it has a turn in progress" in text
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)


@BOTH_WAYS
async def test_block_colours(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        title = "Colour blocks by state, agent or tier"
        await do(pilot, how, "b", title)
        assert app.screen.query_one(BlockMapPane).colour_by == "agent"
        assert "by agent" in screen_text(app)
        await do(pilot, how, "b", title)
        assert "by tier" in screen_text(app)
        assert "on disk too" in screen_text(app)
        await do(pilot, how, "b", title)
        assert "by state" in screen_text(app)


@BOTH_WAYS
async def test_chart_span(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        assert "(1m)" in screen_text(app)
        await do(pilot, how, "c", "Chart span")
        assert "(10m)" in screen_text(app)


@BOTH_WAYS
async def test_maximise_and_back(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        await do(pilot, how, "z", "Maximise pane")
        assert "throughput" not in screen_text(app)
        await do(pilot, how, "z", "Maximise pane")
        assert "throughput" in screen_text(app)


async def test_a_number_shows_a_pane_that_a_small_screen_hides() -> None:
    async with dashboard(size=(80, 24)) as (pilot, app, _):
        assert "throughput" not in screen_text(app)
        await pilot.press("3")
        await pilot.pause()
        assert "throughput" in screen_text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "throughput" not in screen_text(app)


@BOTH_WAYS
async def test_theme_choice(how: str) -> None:
    async with dashboard() as (pilot, app, _):
        await do(pilot, how, "t", "Change theme")
        assert isinstance(app.screen, ChoiceScreen)
        await pilot.press("down", "down")
        await until(pilot, lambda: app.theme == "stoker-colour-blind")  # as if it were chosen
        await pilot.press("escape")
        await until(pilot, lambda: app.theme == "stoker")
        await do(pilot, how, "t", "Change theme")
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.theme == "stoker-light")


@BOTH_WAYS
async def test_screenshot_goes_to_its_folder(how: str, tmp_path: Path) -> None:
    engine = ScriptedEngine(StillScene(SCENES["busy"]()))
    app = StokerApp(engine, address="127.0.0.1:8000", screenshot_folder=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await do(pilot, how, "ctrl+s", "Save a screenshot")
        files = list(tmp_path.iterdir())
        assert len(files) == 1
        assert "<svg" in files[0].read_text()


@BOTH_WAYS
async def test_copy_line(how: str) -> None:
    async with dashboard("empty") as (pilot, app, _):
        await do(pilot, how, "y", "Copy the Claude Code line")
        assert app.clipboard.startswith("ANTHROPIC_BASE_URL=http://127.0.0.1:8000 ")
        assert app.clipboard.endswith("claude --bare")


@BOTH_WAYS
async def test_help_lists_every_action(how: str) -> None:
    async with dashboard(size=(200, 90)) as (pilot, app, _):
        await do(pilot, how, "question_mark", "Help")
        assert isinstance(app.screen, HelpScreen)
        text = " ".join(screen_text(app).split())
        for action in offered(LIVE):
            assert action.help.split(";")[0].split(",")[0][:24] in text


@BOTH_WAYS
async def test_quit_drains_and_leaves(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await do(pilot, how, "q", "Quit")
        await until(pilot, lambda: app._exit)
        assert engine.snapshot.status == "stopped"
        assert app.return_value is True


def test_the_registry_is_sound() -> None:
    for powers in (LIVE, READ_ONLY, RECORDED):
        keys = [key for action in offered(powers) for key in action.keys.split(",")]
        assert len(keys) == len(set(keys))
    for action in ACTIONS:
        assert callable(getattr(MainScreen, f"action_{action.name}"))
    assert len(bindings()) > len(ACTIONS)
    assert {hint.action for hint in key_hints(ACTIONS, UNICODE)} <= {
        f"screen.{each.name}" for each in ACTIONS
    }


async def test_footer_entries_can_be_clicked() -> None:
    async with dashboard() as (pilot, app, _):
        line = screen_text(app).splitlines()[-1]
        await pilot.click("KeyBar", offset=(line.index("s sort"), 0))
        await pilot.pause()
        assert "sort: agent" in screen_text(app)
        await pilot.click("KeyBar", offset=(line.index("help"), 0))
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
