"""KV formats on the command line: chosen, refused, measured, and shown where they are chosen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from app import bench_command
from app.cli import main
from app.config import ConfigError, Settings, load_settings
from app.paths import find_paths
from engine.cache.quantisation import KVQuantisation
from engine.kv_quality import KVQualities, KVQuality, save_qualities
from engine.models.catalog import find_model, known_fingerprint


def load(folder: Path, **variables: str) -> Settings:
    environ = {"STOKER_HOME": str(folder), **variables}
    return load_settings({}, environ=environ, directory=folder)


@pytest.fixture
def home_with_model(stoker_home: Path, bundled_models_dir: Path) -> Path:
    """A home whose bundled model is there already."""
    os.symlink(bundled_models_dir, stoker_home / "models")
    return stoker_home


def test_the_default_loses_nothing(tmp_path: Path) -> None:
    assert load(tmp_path).quantisation is None


@pytest.mark.parametrize("given", ["none", "0", "None"])
def test_lossless_can_be_asked_for(tmp_path: Path, given: str) -> None:
    (tmp_path / "stoker.toml").write_text("kv_bits = 4")

    assert load(tmp_path).quantisation == KVQuantisation(4, 64)
    assert load(tmp_path, STOKER_KV_BITS=given).quantisation is None


def test_bits_and_group_size_come_from_wherever_settings_do(tmp_path: Path) -> None:
    (tmp_path / "stoker.toml").write_text("kv_bits = 8\nkv_group_size = 32")

    assert load(tmp_path).quantisation == KVQuantisation(8, 32)
    changed = load(tmp_path, STOKER_KV_BITS="4", STOKER_KV_GROUP_SIZE="128")
    assert changed.quantisation == KVQuantisation(4, 128)


@pytest.mark.parametrize(
    ("variable", "given", "complaint"),
    [
        ("STOKER_KV_BITS", "5", "must be one of 0, 8, 4, none, not '5'"),
        ("STOKER_KV_BITS", "true", "must be one of"),
        ("STOKER_KV_GROUP_SIZE", "48", "must be one of 32, 64, 128, not '48'"),
        ("STOKER_KV_GROUP_SIZE", "none", "must be one of"),
    ],
)
def test_bad_values_are_refused_by_name(
    tmp_path: Path, variable: str, given: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        load(tmp_path, **{variable: given})

    assert variable in str(caught.value)


def test_a_group_size_that_the_model_cannot_have_is_refused_in_one_line(
    home_with_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["generate", "Hi", "--kv-bits", "4", "--kv-group-size", "128", "--quiet"])

    complaint = capsys.readouterr().err
    assert status != 0
    assert complaint.count("\n") == 1
    assert "kv_group_size 128 does not divide this model's head width 64" in complaint
    assert "use 32 or 64" in complaint


def test_a_format_that_was_not_measured_says_how_to(
    home_with_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", "--kv-bits", "4"]) == 0

    assert "4 bit, group 64, perplexity not measured: run `stoker bench kv`" in (
        capsys.readouterr().out
    )


def test_what_was_measured_is_shown_where_it_is_chosen(
    home_with_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = find_paths()
    source = find_model("bundled", paths.models_dir, lambda _share, _text: None)
    quality = {"lossless": KVQuality(20.0, 400, 1.0), "q4g64": KVQuality(20.5, 50, 7.0)}
    save_qualities(paths.cache_dir, source.fingerprint, KVQualities("text", quality))

    main(["config", "show", "--kv-bits", "4"])
    assert "4 bit, group 64, +2.5 % perplexity" in capsys.readouterr().out
    main(["config", "show", "--kv-bits", "4", "--json"])
    shown = json.loads(capsys.readouterr().out)["kv_cache"]
    assert shown == {"format": "q4g64", "perplexity_change": pytest.approx(0.025)}


def test_a_folder_s_fingerprint_is_known_until_a_file_changes(
    tmp_path: Path, bundled_model_dir: Path
) -> None:
    folder, models = tmp_path / "mine", tmp_path / "models"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((bundled_model_dir / name).read_bytes())
    (folder / "model.safetensors").write_bytes(b"weights")
    assert known_fingerprint(str(folder), models) is None
    source = find_model(str(folder), models, lambda _share, _text: None)

    assert known_fingerprint(str(folder), models) == source.fingerprint
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert known_fingerprint(str(folder), models) is None


@pytest.mark.slow
def test_bench_kv_measures_and_keeps_what_it_measured(
    home_with_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A fifth of the text, and one group size: enough to tell the formats apart.
    text = (Path(bench_command.__file__).parent / "texts" / bench_command.TEXT_NAME).read_text()
    monkeypatch.setattr(bench_command, "read_text", lambda: text[: len(text) // 5])
    monkeypatch.setattr(bench_command, "GROUP_SIZES", (64,))

    assert main(["bench", "kv", "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "SmolLM2-135M-Instruct"
    assert "public domain" in report["text"]["source"]
    lossless, eight, four = report["formats"]
    assert [each["format"] for each in report["formats"]] == ["lossless", "q8g64", "q4g64"]
    assert 5 < lossless["perplexity"] < 60
    assert abs(eight["perplexity_change"]) < 0.01
    assert abs(eight["perplexity_change"]) < four["perplexity_change"] < 0.15
    assert four["bytes_per_token"] == 6480
    assert four["agents_per_gib"] > 3.5 * lossless["agents_per_gib"]  # of 32 bits, here
    main(["config", "show", "--kv-bits", "4"])
    assert f"{100 * four['perplexity_change']:+.1f} % perplexity" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["16", "8,5", "", "four"])
def test_bench_kv_refuses_bits_that_there_are_not(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "kv", "--kv-bits", given])

    assert caught.value.code == 1
    assert "must be 8, 4 or 8,4" in capsys.readouterr().err
