"""The host of a model has one in memory at a time, weights and all."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from app.model_library import ModelLibrary
from engine.model_host import ModelHost
from engine.models.bundled import bundled_folder
from engine.settings import EngineSettings
from engine.telemetry import Telemetry
from tests.engine.swap_models import make_tiny

TINY = "tiny"
WIDE = {"hidden_size": 256, "head_dim": 64, "intermediate_size": 512}
"""So wide that its layers run on host memory, where there are kernels for it."""


@pytest.fixture
def host(tmp_path: Path, bundled_models_dir: Path) -> ModelHost:
    make_tiny(bundled_folder(bundled_models_dir), tmp_path / TINY, **WIDE)
    shelf = ModelLibrary(tmp_path, ())
    settings = EngineSettings(
        find_model=lambda progress: shelf.find(TINY, progress),
        shelf=shelf,
        cache_dir=bundled_models_dir / "cache",
    )
    return ModelHost(settings, Telemetry(time.time), _at_once)


def _at_once(action: Callable[[], None]) -> None:
    action()


def _tell(_share: float, _text: str) -> None:
    """Nobody is told."""


def test_the_weights_go_with_the_model_and_not_when_the_next_one_is_there(host: ModelHost) -> None:
    host.load_first(_tell)
    before = mx.get_active_memory()
    weights = host.core.stepper._runner.model
    weight_bytes = host.loaded.model_row.weight_bytes if host.loaded else 0
    model = weakref.ref(weights)
    del weights
    host.save(0.0)
    host.unload()
    assert model() is None
    assert before - mx.get_active_memory() >= 0.95 * weight_bytes > 0
