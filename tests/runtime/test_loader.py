"""Loading says what a model's cache keeps, what it is fit for, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from engine.runtime import cpu
from engine.runtime.device import DeviceProfile
from engine.runtime.loader import LoadedModel, load
from tests.runtime.tiny_models import CONFIGS, NEED_CHECKPOINTS, make_tiny_model


def loaded(name: str, folder: Path) -> LoadedModel:
    """A tiny model, written to a folder and loaded from it."""
    weights = dict(tree_flatten(make_tiny_model(name).parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
    try:
        return load(folder, DeviceProfile(), lambda share, text: None)
    finally:
        cpu.uninstall()


@pytest.mark.parametrize("name", ["llama", *NEED_CHECKPOINTS])
def test_models_of_every_kind_are_batched_and_restored(name: str, tmp_path: Path) -> None:
    model = loaded(name, tmp_path)
    assert model.batches
    assert model.restores
    assert model.runner.spec.needs_checkpoints is (name in NEED_CHECKPOINTS)
    assert not [note for note in model.notes if note.startswith(("cache:", "restoring:"))]


def test_a_cache_that_keeps_more_than_the_config_says_is_noted(tmp_path: Path) -> None:
    model = loaded("deepseek_v2", tmp_path)
    assert model.restores
    assert (
        "cache: the config describes 2 layers that keep every token (192 B/token); "
        "the cache has 2 layers that keep every token (1280 B/token)"
    ) in model.notes
