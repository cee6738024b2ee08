"""A real engine behind the dashboard: the model is changed by keys while a turn runs, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app.dashboard.app import StokerApp
from app.dashboard.screens.confirm import ConfirmScreen
from app.dashboard.screens.main import MainScreen
from app.dashboard.screens.models import ModelsScreen
from app.model_library import ModelLibrary
from engine.commands import Shutdown
from engine.request import FinishReason
from engine.settings import DiskSettings
from tests.dashboard.driving import until
from tests.dashboard.screen_text import screen_text, toasts
from tests.engine.real_engine import TIMEOUT_S, RunningTurn, ask, make_engine
from tests.engine.swap_models import TINY_IDS, make_shelf
from widgets.model_list import ModelList

ALPHA, BETA = TINY_IDS
PROMPT = "Tell me about the river behind the house. " * 12


async def look_at(pilot: Pilot[bool], model_id: str) -> None:
    """Opens the list of models and goes to one."""
    app = pilot.app
    await pilot.press("m")
    await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
    models = app.screen.query_one(ModelList)
    await until(pilot, lambda: models.option_count > 2)
    for _ in range(models.option_count):
        if models.choice is not None and models.choice.model_id == model_id:
            break
        await pilot.press("down")
    await pilot.pause()


async def choose(pilot: Pilot[bool]) -> None:
    """Swaps to the model that is looked at."""
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
    await pilot.press("y")
    await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))


@pytest.mark.slow
async def test_a_swap_by_keys_lets_turns_finish_and_the_way_back_finds_caches_warm(
    bundled_models_dir: Path, tmp_path: Path
) -> None:
    models = make_shelf(tmp_path / "models", bundled_models_dir)
    engine = await asyncio.to_thread(
        make_engine,
        models,
        tmp_path / "cache",
        disk=DiskSettings(folder=tmp_path / "home", budget_bytes=1 << 32),
        shelf=ModelLibrary(models, ()),
        model=ALPHA,
    )
    app = StokerApp(engine, address="127.0.0.1:8000", start=lambda: None)
    try:
        async with app.run_test(size=(120, 40)) as pilot:
            first = await asyncio.to_thread(ask, engine, "writer", PROMPT)
            await until(pilot, lambda: "writer" in screen_text(app))
            turn = await asyncio.to_thread(
                RunningTurn, engine, "runner", "Count to a hundred.", max_tokens=200
            )
            await look_at(pilot, BETA)
            assert "none of " in screen_text(app)
            await choose(pilot)
            answer = await asyncio.to_thread(turn.answer)
            assert answer.last.finish_reason in (FinishReason.MAX_TOKENS, FinishReason.END_TURN)
            await until(pilot, lambda: any(f"{BETA} serves now" in text for text in toasts(app)))
            assert engine.snapshot.model == BETA

            await look_at(pilot, ALPHA)
            assert "2 of 2 agents stay warm" in screen_text(app)
            await choose(pilot)
            await until(pilot, lambda: any(f"{ALPHA} serves now" in text for text in toasts(app)))
            again = await asyncio.to_thread(ask, engine, "writer", PROMPT)
            assert again.token_ids == first.token_ids
            assert again.num_cached_tokens > 100
            assert len(toasts(app)) == 2
    finally:
        engine.send(Shutdown(drain_s=0.0))
        assert await asyncio.to_thread(engine.join, TIMEOUT_S)
