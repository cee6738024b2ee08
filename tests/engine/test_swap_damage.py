"""Changing to a model whose files are damaged: it is refused in words, and the old one serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.model_library import ModelLibrary
from engine.commands import Shutdown
from engine.engine import Engine
from engine.errors import InvalidRequestError, ModelLoadError
from engine.messages import Message, Role
from engine.model_commands import SwapModel
from engine.models.bundled import bundled_folder
from engine.settings import DiskSettings
from engine.snapshot import EngineStatus
from tests.engine.real_engine import TIMEOUT_S, ask, make_engine
from tests.engine.swap_models import TINY_IDS, make_shelf, make_tiny

ALPHA = TINY_IDS[0]
PROMPT = "Tell me about the river behind the house. " * 12
RAISES = "{{ raise_exception('not with me') }}"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, bundled_models_dir: Path) -> Path:
    return make_shelf(tmp_path_factory.mktemp("shelf") / "models", bundled_models_dir)


@pytest.fixture(scope="module")
def engine(
    models: Path, bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    disk = DiskSettings(folder=tmp_path_factory.mktemp("home"), budget_bytes=1 << 32)
    cache = bundled_models_dir / "cache"
    engine = make_engine(models, cache, disk=disk, shelf=ModelLibrary(models, ()), model=ALPHA)
    try:
        yield engine
    finally:
        engine.send(Shutdown(drain_s=0.0))
        assert engine.join(TIMEOUT_S)


def swap(engine: Engine, model: str) -> None:
    command = SwapModel(model=model)
    engine.send(command)
    command.done.result(TIMEOUT_S)


def _cut_shard(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _spoilt_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[8:40] = bytes(32)
    path.write_bytes(bytes(content))


def _missing_weight(folder: Path) -> None:
    import mlx.core as mx

    path = folder / "model.safetensors"
    weights = mx.load(str(path))
    assert isinstance(weights, dict)
    weights.pop(next(name for name in sorted(weights) if "mlp" in name))
    mx.eval(weights)
    mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})


def _no_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _bad_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for message in %}")


@pytest.mark.parametrize(
    "spoil", [_cut_shard, _spoilt_header, _missing_weight, _no_shard, _bad_template]
)
def test_a_damaged_model_is_refused_and_nothing_is_lost(
    engine: Engine, models: Path, spoil: Callable[[Path], None]
) -> None:
    before = ask(engine, "steady", PROMPT)
    name = f"damaged{spoil.__name__}"
    make_tiny(bundled_folder(models), models / name)
    spoil(models / name)

    with pytest.raises(ModelLoadError) as refused:
        swap(engine, name)

    assert str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert engine.snapshot.status is EngineStatus.SERVING
    assert (engine.snapshot.model, engine.snapshot.swap) == (ALPHA, None)
    again = ask(engine, "steady", PROMPT)
    assert again.token_ids == before.token_ids
    assert again.num_cached_tokens > 100


def test_a_template_that_raises_fails_requests_and_not_the_engine(
    engine: Engine, models: Path
) -> None:
    name = "raising"
    make_tiny(bundled_folder(models), models / name)
    (models / name / "chat_template.jinja").write_text(RAISES)
    swap(engine, name)
    chat = engine.chat_format
    assert chat is not None
    with pytest.raises(InvalidRequestError, match="not with me"):
        chat.render_chat([Message(role=Role.USER, text="Hello")])
    swap(engine, ALPHA)
    assert ask(engine, "after", "Still there?").token_ids
