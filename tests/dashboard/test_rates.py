"""How often the screen is drawn: only what changed, and nothing when nothing did."""

from __future__ import annotations

import dataclasses

import pytest
from textual.pilot import Pilot

from app.dashboard.app import StokerApp
from app.dashboard.screenshots import demo_app, still_app
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import busy
from engine.scripted_still import StillScene
from engine.snapshot import EngineSnapshot
from styles.themes import DARK
from tests.dashboard.driving import until
from tests.dashboard.screen_text import screen_text
from widgets.batch import BatchPane
from widgets.block_map import BlockMapPane
from widgets.header import Header
from widgets.lane_list import LaneList
from widgets.throughput import ThroughputPane

DRAWN = (Header, BatchPane, BlockMapPane, ThroughputPane)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts how often each widget draws."""
    counts: dict[str, int] = {}
    for widget in DRAWN:
        _count_renders(monkeypatch, widget, counts)
    return counts


def _count_renders(monkeypatch: pytest.MonkeyPatch, widget: type, counts: dict[str, int]) -> None:
    original = widget.render  # type: ignore[attr-defined]

    def render(self: object) -> object:
        counts[widget.__name__] = counts.get(widget.__name__, 0) + 1
        return original(self)

    monkeypatch.setattr(widget, "render", render)


async def settled(pilot: Pilot[bool], draws: dict[str, int]) -> dict[str, int]:
    """The counts once the first drawing is over."""
    before: dict[str, int] = {}
    while draws != before:
        before = dict(draws)
        await pilot.pause(0.5)
    return before


async def test_nothing_is_drawn_while_nothing_changes(draws: dict[str, int]) -> None:
    app, _ = still_app("busy")
    async with app.run_test(size=(120, 40)) as pilot:
        before = await settled(pilot, draws)
        await pilot.pause(1.5)
        assert draws == before


async def test_hidden_panes_do_not_draw(draws: dict[str, int]) -> None:
    app, engine = demo_app(40)
    async with app.run_test(size=(80, 24)) as pilot:
        before = await settled(pilot, draws)
        engine._clock = lambda: 45.0
        await until(pilot, lambda: draws["Header"] > before["Header"])
        await pilot.pause(0.3)
        for hidden in ("BatchPane", "BlockMapPane", "ThroughputPane"):
            assert draws[hidden] == before[hidden]


async def test_only_lanes_that_changed_are_drawn_again() -> None:
    class Moving(StillScene):
        def advance(self, now_s: float) -> EngineSnapshot:
            shown = super().advance(now_s)
            second = dataclasses.replace(shown.agents[2], num_generated_tokens=int(now_s))
            agents = (*shown.agents[:2], second, *shown.agents[3:])
            return dataclasses.replace(shown, agents=agents, step=shown.step + int(now_s))

    now = [0.0]
    engine = ScriptedEngine(Moving(busy()), clock=lambda: now[0])
    app = StokerApp(engine, address="127.0.0.1:8000", clock=lambda: 0.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.8)
        lanes = app.screen.query_one(LaneList)
        drawn: list[int] = []
        original = lanes.render_line

        def render_line(y: int) -> object:
            drawn.append(y)
            return original(y)

        lanes.render_line = render_line  # type: ignore[assignment, method-assign]
        # On a busy machine the first picture may still be on its way.
        for _ in range(20):
            drawn.clear()
            await pilot.pause(0.3)
            if not drawn:
                break
        now[0] = 77.0
        await until(pilot, lambda: "77 tok" in screen_text(app))
        await pilot.pause(0.3)
        assert set(drawn) == {2}


async def test_a_fading_rate_does_not_make_an_eviction_look_dearer() -> None:
    unsaved = tuple(dataclasses.replace(row, warm_bytes=0) for row in busy().agents)
    shown = dataclasses.replace(busy(), agents=unsaved)
    slow = dataclasses.replace(shown.throughput, prefill_tok_s=9.0)
    faded = dataclasses.replace(shown, throughput=slow, step=shown.step + 1)
    snapshots = {0.0: shown, 1.0: faded}
    now = [0.0]

    class Fading(StillScene):
        def advance(self, now_s: float) -> EngineSnapshot:
            return snapshots[now_s]

    engine = ScriptedEngine(Fading(shown), clock=lambda: now[0])
    engine.start()
    app = StokerApp(engine, address="127.0.0.1:8000", clock=lambda: 0.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.6)
        now[0] = 1.0
        await pilot.pause(0.6)
        await pilot.press(*["down"] * 4, "e")
        await pilot.pause()
        assert "2,770 tokens, 6.7s at best" in screen_text(app)


async def test_help_is_laid_out_once_and_still_follows_size_and_theme() -> None:
    app, _ = still_app("busy")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        first, dark = app.screen, help_colours(app)
        assert "prefilling: reading" in screen_text(app)  # the second column
        await pilot.press("escape")
        await pilot.resize_terminal(80, 24)
        app.theme = "stoker-light"
        await pilot.pause()
        await pilot.press("question_mark")
        await pilot.pause()
        assert app.screen is first
        assert "prefilling: reading" not in screen_text(app)  # below, in one column
        assert "Selected agent" in screen_text(app)
        assert not dark & help_colours(app)
        await pilot.press("G", "end")
        await pilot.pause()
        assert "Go to its pane or agent" in screen_text(app)


def help_colours(app: StokerApp) -> set[str]:
    """The colours behind and of the text."""
    strips = app.screen._compositor.render_strips()
    styles = [segment.style for strip in strips[3:12] for segment in strip if segment.style]
    colours = {style.bgcolor for style in styles} | {style.color for style in styles}
    return {str(colour) for colour in colours if colour}


async def test_drawn_lanes_are_kept_but_not_in_another_themes_colours() -> None:
    app, _ = still_app("busy")
    app.register_theme(dataclasses.replace(DARK, name="other", success="#ff00ff"))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        lanes = app.screen.query_one(LaneList)
        assert lanes.render_line(0) is lanes.render_line(0)
        assert "#ff00ff" not in colours_of(lanes)
        app.theme = "other"
        await pilot.pause()
        assert "#ff00ff" in colours_of(lanes)


def colours_of(lanes: LaneList) -> set[str]:
    """The colours of the text of the first lane."""
    styles = [segment.style for segment in lanes.render_line(0)]
    return {style.color.name for style in styles if style and style.color}
