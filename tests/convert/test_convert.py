"""A model with fewer bits is there whole and judged, or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from app.cli import main
from app.model_maker import ModelMaker
from engine.errors import ModelLoadError
from engine.models.entry import Room
from engine.models.places import list_models, show_model
from engine.models.recipe import Recipe
from engine.models.verdict import VERDICT_NAME, read_verdict
from engine.runtime.device import DevicePlan, detect
from engine.runtime.loader import load
from tests.engine.swap_models import make_tiny, share_kernels

TEXT = "Once upon a time there was a river, and a house beside it. " * 12
ROOM = Room(0, widens=False)
ROOT = Path(__file__).parents[2]


def nothing(_share: float, _text: str) -> None:
    """Nobody looks."""


@pytest.fixture
def models(tmp_path: Path, bundled_models_dir: Path, bundled_model_dir: Path) -> Path:
    share_kernels(bundled_models_dir, tmp_path / "cache")
    make_tiny(bundled_model_dir, tmp_path / "models" / "alpha")
    make_tiny(bundled_model_dir, tmp_path / "models" / "narrow", intermediate_size=96)
    (tmp_path / "models" / "alpha" / "model.py").write_text("raise SystemExit('never run')\n")
    return tmp_path / "models"


Convert = Callable[..., object]


def maker(models: Path, progress: Callable[[float, str], None] = nothing) -> ModelMaker:
    return ModelMaker(models, models.parent / "cache", TEXT, progress)


def left(models: Path) -> list[str]:
    """What is there beside the source: models, and what may become or was one."""
    names = {path.name for path in models.iterdir()} - {"alpha", "narrow", ".fingerprints"}
    return sorted(name for name in names if not name.endswith(".lock"))


def test_it_is_smaller_can_be_loaded_and_has_a_verdict(models: Path) -> None:
    made = maker(models).convert("alpha", Recipe(8, 32), None)
    assert made.model_id == "alpha-8bit"
    assert (models / "alpha-8bit" / VERDICT_NAME).is_file()
    entry = show_model("alpha-8bit", models, ROOM)
    assert not entry.refusal
    assert entry.verdict == made.verdict.words
    assert entry.size_bytes < show_model("alpha", models, ROOM).size_bytes / 2
    assert made.verdict.greedy_agreement > 0.9
    assert made.verdict.num_tokens > 100
    assert read_verdict(made.folder) == made.verdict
    assert not (made.folder / "model.py").exists()
    assert load(made.folder, detect(DevicePlan()), nothing).batches


@pytest.mark.slow
def test_fewer_bits_are_further_from_the_source(models: Path) -> None:
    errors = [
        maker(models).convert("alpha", Recipe(bits, 32), None).verdict.max_logit_error
        for bits in (8, 4, 3)
    ]
    assert errors == sorted(errors)
    assert show_model("alpha-3bit", models, ROOM).verdict.startswith("unstable: ")


@pytest.mark.slow
def test_a_mixed_recipe_gives_some_layers_more(models: Path, bundled_model_dir: Path) -> None:
    make_tiny(bundled_model_dir, models / "deep", num_hidden_layers=8)
    made = maker(models).convert("deep", Recipe(4, 32, "mixed_4_6"), None)
    assert made.model_id == "deep-mixed-4-6"
    config = json.loads((made.folder / "config.json").read_text())
    bits = {each["bits"] for each in config["quantization"].values() if isinstance(each, dict)}
    assert 6 in bits


@pytest.mark.parametrize(
    ("reference", "recipe", "name", "said"),
    [
        ("narrow", Recipe(8, 128), None, "smaller group size"),
        ("alpha", Recipe(8, 32), "../up", "cannot be a model's name"),
        ("alpha", Recipe(8, 32), "alpha", "already"),
        ("nobody", Recipe(8, 32), None, "is not here"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(
    models: Path, reference: str, recipe: Recipe, name: str | None, said: str
) -> None:
    with pytest.raises(Exception, match=said):
        maker(models).convert(reference, recipe, name)
    assert left(models) == []


@pytest.mark.slow
def test_what_is_quantised_already_is_refused(models: Path) -> None:
    maker(models).convert("alpha", Recipe(8, 32), None)
    with pytest.raises(ModelLoadError, match="quantised already"):
        maker(models).convert("alpha-8bit", Recipe(4, 32), None)
    assert "alpha-8bit-4bit" not in left(models)


def test_without_room_on_the_disk_nothing_is_begun(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(models)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(ModelLoadError, match="are free"):
        maker(models).convert("alpha", Recipe(8, 32), None)
    assert left(models) == []


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("[save_safetensors] no space left on device")

    monkeypatch.setattr(mx, "save_safetensors", full)
    with pytest.raises(ModelLoadError, match="no space left"):
        maker(models).convert("alpha", Recipe(8, 32), None)
    assert left(models) == []


def test_a_part_that_was_cut_off_in_silence_is_found_out(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = mx.save_safetensors

    def short(path: str, *arguments: Any, **options: Any) -> None:
        save(path, *arguments, **options)
        data = Path(path).read_bytes()
        Path(path).write_bytes(data[: len(data) // 2])

    monkeypatch.setattr(mx, "save_safetensors", short)
    with pytest.raises(ModelLoadError):
        maker(models).convert("alpha", Recipe(8, 32), None)
    assert left(models) == []


@pytest.mark.parametrize("moment", ["writing", "reading with the result"])
def test_interrupted_it_leaves_nothing(models: Path, moment: str) -> None:
    def interrupt(_share: float, text: str) -> None:
        if text.startswith(moment):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maker(models, interrupt).convert("alpha", Recipe(8, 32), None)
    assert left(models) == []


def test_killed_it_leaves_no_model_and_the_next_run_sweeps(models: Path) -> None:
    folders = [str(models), str(models.parent / "cache")]
    command = [sys.executable, "-m", "tests.convert.killed_child", *folders]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        child.kill()
    assert any(name.endswith(".tmp") for name in left(models))
    assert {entry.model_id for entry in list_models(models, ROOM)} == {"bundled", "alpha", "narrow"}
    maker(models).convert("alpha", Recipe(8, 32), None)
    assert left(models) == ["alpha-8bit"]


def test_by_command_made_shown_kept_from_being_default_and_removed(
    models: Path, stoker_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stoker_home / "models").symlink_to(models)
    (models.parent / "cache").rename(stoker_home / "cache")

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["models", *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, _ = run("convert", "alpha", "--bits", "3", "--group-size", "32", "--json")
    assert code == 0
    assert json.loads(out)["verdict"]["num_bits"] == 3
    code, out, _ = run("show", "alpha-3bit")
    assert "unstable" in out
    code, _, err = run("default", "alpha-3bit")
    assert code != 0
    assert "3 bits are below 4" in err
    code, out, _ = run("default", "alpha")
    assert code == 0
    code, out, _ = run("default")
    assert out.startswith("alpha (")
    code, _, err = run("rm", "alpha", "--yes")
    assert code != 0
    assert "is the default" in err
    code, _, err = run("rm", "bundled", "--yes")
    assert code != 0
    assert "stays" in err
    code, out, _ = run("rm", "alpha-3bit", "--yes")
    assert code == 0
    assert "alpha-3bit" not in left(models)
