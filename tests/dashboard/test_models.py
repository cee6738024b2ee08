"""Choosing another model: by key, palette and mouse, with what it means before and after."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from app.dashboard.action import READ_ONLY, RECORDED
from app.dashboard.actions import offered
from app.dashboard.app import StokerApp
from app.dashboard.screens.confirm import ConfirmScreen
from app.dashboard.screens.main import MainScreen
from app.dashboard.screens.models import ModelsScreen
from app.dashboard.screenshots import still_app
from engine.commands import Command
from engine.errors import UnavailableError
from engine.model_commands import ListModels, SwapModel
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.scripted_world import DemoWorld
from engine.snapshot import AgentImpact, EngineSnapshot, ModelChoice, SwapPhase
from tests.dashboard.attaching import attached, scripted, serving
from tests.dashboard.driving import EVERY_WAY, dashboard, do, until
from tests.dashboard.screen_text import screen_text, toasts
from tests.dashboard.test_scripted_engine import Clock
from widgets.model_list import ModelList

SnapCompare = Callable[..., bool]
SIZES = pytest.mark.parametrize(
    "size", [(80, 24), (120, 40), (200, 60)], ids=["small", "medium", "large"]
)
SMALL, LARGER, QWEN = "SmolLM2-135M-Instruct", "SmolLM2-360M-Instruct-8bit", "Qwen3-0.6B-4bit"
TORN, FOREIGN = "gemma-3-1b-it-4bit", "RWKV-x060-World-1B6"
HOSTILE = (
    "日本語の長い長い長い長い長い長い長いモデル名",
    "[red]danger[/red]\x1b[2J\x1b]0;title\x07",
    "\u202eright to left\nsecond line",
    "a" * 200,
)


class Hostile(StillScene):
    """Lists models whose names and words try to harm the screen."""

    def models(self, kv_bits: int | None = None) -> tuple[ModelChoice, ...]:
        agents = tuple(
            AgentImpact(agent_id=name, namespace=name, num_tokens=900, num_warm_tokens=100 * at)
            for at, name in enumerate(HOSTILE)
        )
        return tuple(
            ModelChoice(
                model_id=name,
                origin=name,
                architecture=name,
                verdict=name,
                refusal=name if at == 1 else "",
                fits=False,
                agents=agents,
            )
            for at, name in enumerate(HOSTILE)
        )


@asynccontextmanager
async def on(engine: Any) -> AsyncIterator[tuple[Pilot[bool], StokerApp]]:
    app = StokerApp(engine, address="127.0.0.1:8000", zone=UTC)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        yield pilot, app


async def opened(pilot: Pilot[bool]) -> None:
    """Opens the list by its key and waits for the models."""
    await pilot.press("m")
    await until(pilot, lambda: isinstance(pilot.app.screen, ModelsScreen))
    await until(pilot, lambda: pilot.app.screen.query_one(ModelList).option_count > 0)
    await pilot.pause()


@SIZES
@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(["m"], id="list"),
        pytest.param(["m", "down", "enter"], id="asks"),
        pytest.param(["m", "end"], id="refused"),
    ],
)
def test_the_list(snap_compare: SnapCompare, keys: list[str], size: tuple[int, int]) -> None:
    app, _ = still_app("busy")
    assert snap_compare(app, press=keys, terminal_size=size)


@SIZES
@pytest.mark.parametrize("keys", [[], ["6"]], ids=["everything", "models-pane"])
def test_a_swap_half_way(snap_compare: SnapCompare, keys: list[str], size: tuple[int, int]) -> None:
    app, _ = still_app("swapping")
    assert snap_compare(app, press=keys, terminal_size=size)


@pytest.mark.parametrize("look", ["light", "plain", "no-colour"])
def test_other_looks(snap_compare: SnapCompare, monkeypatch: pytest.MonkeyPatch, look: str) -> None:
    if look == "no-colour":
        monkeypatch.setenv("NO_COLOR", "1")
    app, _ = still_app("swapping", plain_glyphs=look == "plain")
    if look == "light":
        app.theme = "stoker-light"
    assert snap_compare(app, press=["m", "down"], terminal_size=(120, 40))


def test_hostile_names(snap_compare: SnapCompare) -> None:
    engine = ScriptedEngine(Hostile(SCENES["busy"]()), clock=lambda: 0.0)
    engine.start()
    app = StokerApp(engine, address="127.0.0.1:8000", clock=lambda: 0.0, zone=UTC)
    app.animation_level = "none"
    assert snap_compare(app, press=["m"], terminal_size=(120, 40))


@EVERY_WAY
async def test_a_model_is_chosen_confirmed_and_serves(how: str) -> None:
    async with dashboard() as (pilot, app, engine):
        await do(pilot, how, "m", "Swap model")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await until(pilot, lambda: LARGER in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        text = " ".join(screen_text(app).split())
        assert f"Swap to {LARGER}?" in text
        assert engine.snapshot.model == SMALL
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        await until(pilot, lambda: bool(toasts(app)))
        assert engine.snapshot.model == LARGER
        assert toasts(app) == [
            f"{LARGER} serves now, after 7.3s (turns finished 1.2s, caches saved 0.40s, "
            "unloaded 0.30s, loaded 5.2s, pool made 0.20s)"
        ]
        assert f"stoker  {LARGER}" in screen_text(app)


async def test_the_question_says_what_it_costs_and_the_safe_answer_goes_back() -> None:
    async with dashboard() as (pilot, app, engine):
        await opened(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        words = str(app.screen.query_one(".consequences", Static).content)
        assert "12,508 tokens, 37s" in words
        assert "1 of 6 agents stays warm, 2 in part" in words
        assert "turns are under way and may take 30s to finish" in words
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        assert engine.snapshot.model == SMALL
        assert toasts(app) == []


async def test_without_a_disk_the_question_says_that_caches_are_lost() -> None:
    async with dashboard("disk_off") as (pilot, app, _):
        await opened(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "9,360 tokens of cache are lost" in screen_text(app)


async def test_the_preview_follows_the_cursor() -> None:
    async with dashboard() as (pilot, app, _):
        await opened(pilot)
        assert f"{LARGER}  stoker · llama" in screen_text(app)
        assert "12,508 tokens, 37s" in screen_text(app)
        await pilot.press("j")
        await until(pilot, lambda: f"{QWEN}  lmstudio · qwen3" in screen_text(app))
        text = screen_text(app)
        assert "none of 6 agents stays warm" in text
        assert "25,820 tokens; how fast it reads was never measured" in text
        assert "it was never loaded here" in text
        await pilot.press("g")
        await until(pilot, lambda: "serves now, loaded in 3.4s" in screen_text(app))


async def test_what_cannot_be_swapped_to_is_said_and_not_asked() -> None:
    async with dashboard() as (pilot, app, engine):
        await opened(pilot)
        await pilot.press("G", "enter")
        await until(pilot, lambda: bool(toasts(app)))
        assert "architecture 'rwkv6' is not supported" in toasts(app)[0]
        await pilot.press("g", "enter")
        await until(pilot, lambda: len(toasts(app)) == 2)
        assert toasts(app)[1] == f"{SMALL} serves already"
        assert isinstance(app.screen, ModelsScreen)
        assert engine.snapshot.model == SMALL


async def test_a_load_that_fails_is_told_and_the_model_stays() -> None:
    async with dashboard() as (pilot, app, engine):
        await opened(pilot)
        app.screen.query_one(ModelList).highlighted = 4
        await pilot.press("enter", "y")
        await until(pilot, lambda: bool(toasts(app)))
        assert len(toasts(app)) == 1
        assert f"{TORN} cannot be loaded, {SMALL} serves again" in toasts(app)[0]
        assert "12 MB short" in toasts(app)[0]
        assert engine.snapshot.model == SMALL


async def test_the_active_model_is_loaded_anew_in_another_kv_format() -> None:
    async with dashboard() as (pilot, app, engine):
        await opened(pilot)
        await pilot.press("b", "b", "b", "g")
        await until(pilot, lambda: "KV cache: 4 bit" in screen_text(app))
        await until(pilot, lambda: "serves, in another format" in screen_text(app))
        assert "kv cache  4 bit, group 64" in screen_text(app)
        assert "none of 6 agents stays warm" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        question = str(app.screen.query_one(".question", Static).content)
        assert question == f"Load {SMALL} anew with its KV cache in 4 bit, group 64?"
        await pilot.press("y")
        await until(pilot, lambda: bool(toasts(app)))
        row = engine.snapshot.model_detail
        assert row is not None
        assert (row.model_id, row.kv_format) == (SMALL, "4 bit, group 64")
        await pilot.press("6")
        await until(pilot, lambda: "4 bit, group 64, not measured" in screen_text(app))
        await opened(pilot)
        await pilot.press("g")
        await until(pilot, lambda: "serves, in another format" in screen_text(app))
        assert "4 of 6 agents stay warm, 2 in part" in screen_text(app)
        await pilot.press("b", "b", "b", "enter")
        await until(pilot, lambda: len(toasts(app)) == 2)
        assert toasts(app)[1] == f"{SMALL} serves already"


@pytest.mark.parametrize("keys", [[], ["b", "b", "b"]], ids=["as-set", "4-bit"])
async def test_an_attached_dashboard_changes_the_model_there(keys: list[str]) -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            await opened(pilot)
            await pilot.press(*keys)
            words = "kv cache  4 bit, group 64" if keys else "12,508 tokens, 37s"
            await until(pilot, lambda: words in screen_text(app))
            await pilot.press("enter", "y")
            await until(pilot, lambda: bool(toasts(app)))
            assert f"{LARGER} serves now, after" in toasts(app)[0]
            await until(pilot, lambda: f"stoker  {LARGER}" in screen_text(app))
            row = engine.snapshot.model_detail
            assert row is not None
            assert row.kv_format == ("4 bit, group 64" if keys else "lossless")
            await opened(pilot)
            app.screen.query_one(ModelList).highlighted = 4
            await pilot.press("enter", "y")
            await until(pilot, lambda: len(toasts(app)) == 2)
            assert "12 MB short" in toasts(app)[1]


async def test_a_click_looks_a_second_one_asks_and_the_foot_can_be_clicked() -> None:
    async with dashboard() as (pilot, app, _):
        await opened(pilot)
        await pilot.click(ModelList, offset=(8, 2))
        await until(pilot, lambda: f"{QWEN}  lmstudio" in screen_text(app))
        assert isinstance(app.screen, ModelsScreen)
        await pilot.click(ModelList, offset=(8, 2))
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.click("#no")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await pilot.click("KeyBar", offset=(2, 0))
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))


async def test_a_swap_is_followed_on_the_main_screen() -> None:
    clock = Clock()
    engine = ScriptedEngine(DemoWorld(), clock=clock)
    async with on(engine) as (pilot, app):
        clock.now_s = 60.0
        await until(pilot, lambda: "● serving" in screen_text(app))
        await opened(pilot)
        await pilot.press("enter", "y")
        await until(pilot, lambda: "running turns finish before" in screen_text(app))
        assert "● swapping" in screen_text(app)
        await until(pilot, lambda: _is_awaited(engine, clock))
        await until(pilot, lambda: f"loading {LARGER}" in screen_text(app))
        await until(pilot, lambda: "awaits model" in screen_text(app))
        text = screen_text(app)
        assert " left" in text
        assert "request" in text
        await pilot.press("6")
        await until(pilot, lambda: "no model is in memory now" in screen_text(app))
        clock.now_s += 30.0
        await until(pilot, lambda: any("serves now, after" in text for text in toasts(app)))
        await until(pilot, lambda: f"from {SMALL} in" in screen_text(app))
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await until(pilot, lambda: f"{LARGER}  stoker" not in screen_text(app))
        assert sum("serves now" in text for text in toasts(app)) == 1


def _is_awaited(engine: ScriptedEngine, clock: Clock) -> bool:
    """Lets time pass until the model is being read and somebody waits for it."""
    swap = engine.snapshot.swap
    if swap is not None and swap.phase is SwapPhase.LOADING and swap.num_waiting:
        return True
    clock.now_s += 0.2
    return False


@pytest.mark.parametrize(("wanted", "words"), [(LARGER, "serves now in place of"), (TORN, "does")])
async def test_a_swap_that_somebody_else_asked_for_is_told(wanted: str, words: str) -> None:
    clock = Clock()
    engine = ScriptedEngine(DemoWorld(), clock=clock)
    async with on(engine) as (pilot, app):
        clock.now_s = 60.0
        await until(pilot, lambda: "● serving" in screen_text(app))
        engine.send(SwapModel(model=wanted))
        await until(pilot, lambda: "● swapping" in screen_text(app))
        clock.now_s += 60.0
        await until(pilot, lambda: any(words in text for text in toasts(app)))
        assert len(toasts(app)) == 1


async def test_no_second_swap_is_asked_for_while_one_is_under_way() -> None:
    async with dashboard("swapping") as (pilot, app, _):
        await opened(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: bool(toasts(app)))
        assert toasts(app) == [f"the model is being changed to {QWEN} already"]


async def test_the_screen_does_not_wait_for_the_list() -> None:
    held: list[ListModels] = []

    class Slow(ScriptedEngine):
        def send(self, command: Command) -> None:
            if isinstance(command, ListModels):
                held.append(command)
            else:
                super().send(command)

    engine = Slow(StillScene(SCENES["busy"]()), clock=lambda: 0.0)
    async with on(engine) as (pilot, app):
        await pilot.press("m")
        await until(pilot, lambda: "looking for models" in screen_text(app))
        await pilot.press("enter", "down")
        assert isinstance(app.screen, ModelsScreen)
        refusal = UnavailableError("the engine is shutting down")
        await asyncio.to_thread(held[0].done.set_exception, refusal)
        await until(pilot, lambda: "✖ the engine is shutting down" in screen_text(app))
        await pilot.press("r")
        choices = (ModelChoice(model_id="alone", is_active=True),)
        await asyncio.to_thread(held[1].done.set_result, choices)
        await until(pilot, lambda: "models 1" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))


async def test_an_answer_after_the_list_was_closed_harms_nobody() -> None:
    held: list[ListModels] = []

    class Slow(ScriptedEngine):
        def send(self, command: Command) -> None:
            if isinstance(command, ListModels):
                held.append(command)
            else:
                super().send(command)

    engine = Slow(StillScene(SCENES["busy"]()), clock=lambda: 0.0)
    async with on(engine) as (pilot, app):
        await pilot.press("m", "escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        await asyncio.to_thread(held[0].done.set_result, ())
        await pilot.press("down")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)


async def test_it_is_not_offered_where_nothing_can_be_changed() -> None:
    for powers in (READ_ONLY, RECORDED):
        assert "models" not in {action.name for action in offered(powers)}
    engine = ScriptedEngine(StillScene(SCENES["busy"]()), clock=lambda: 0.0)
    app = StokerApp(engine, address="127.0.0.1:8000", powers=READ_ONLY)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("m")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        assert "m models" not in screen_text(app)


async def test_an_engine_without_agents_shows_a_swap_in_their_place() -> None:
    scene: EngineSnapshot = dataclasses.replace(SCENES["swapping"](), agents=())
    engine = ScriptedEngine(StillScene(scene), clock=lambda: 0.0)
    async with on(engine) as (pilot, app):
        await until(pilot, lambda: f"loading: {QWEN}" in screen_text(app))
        assert " 62%" in screen_text(app)
