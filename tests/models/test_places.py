from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.errors import ModelNotFoundError
from engine.models.catalog import find_model
from engine.models.entry import ModelEntry, Room, read_entry
from engine.models.places import find_place, list_models, show_model

ROOM = Room(10**9, widens=True)
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
MAIN, OTHER = "a" * 40, "b" * 40


def make_model(folder: Path, **changes: object) -> Path:
    """A folder that looks like a model of 64 16-bit weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (folder / "tokenizer.json").write_text("{}")
    template = "{% if tools %}<tool_call>{% endif %}<think>"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    save_file({"w": np.zeros(64, np.float16)}, folder / "model.safetensors")
    return folder


def entry_of(folder: Path, root: Path | None = None) -> ModelEntry:
    return read_entry("m", "path", folder, root, ROOM)


def listed(home: Path) -> dict[str, ModelEntry]:
    entries = list_models(home / "own", ROOM, {"HOME": str(home)})
    return {entry.model_id: entry for entry in entries}


def hub(home: Path) -> Path:
    return home / ".cache" / "huggingface" / "hub"


def test_entry_tells_what_config_weights_and_template_say(tmp_path: Path) -> None:
    entry = entry_of(make_model(tmp_path / "m"))

    assert (entry.architecture, entry.num_bits, entry.max_context_tokens) == ("llama", 16, 2048)
    assert entry.cache_bytes_per_1k_tokens == 1024 * 2 * 2 * 2 * 16 * 4
    assert entry.loaded_bytes == 64 * 4
    assert (entry.tool_format, entry.reasoning_format) == ("hermes", "think")
    assert (entry.fits, entry.refusal) == (True, "")


def test_model_larger_than_memory_does_not_fit(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")

    assert read_entry("m", "path", folder, None, Room(255, widens=True)).fits is False


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "warp9"}, "architecture 'warp9' is not supported"),
        ({"model_type": "../x"}, "names no model_type"),
        ({"model_file": "evil.py"}, "code of its own"),
    ],
)
def test_what_cannot_be_run_is_refused(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    assert reason in entry_of(make_model(tmp_path / "m", **changes)).refusal


def test_cut_off_weights_are_refused(tmp_path: Path) -> None:
    weights = make_model(tmp_path / "m") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    assert "bytes instead of" in entry_of(tmp_path / "m").refusal


def test_lying_header_length_is_refused(tmp_path: Path) -> None:
    weights = make_model(tmp_path / "m") / "model.safetensors"
    weights.write_bytes((2**62).to_bytes(8, "little") + b"{}")

    assert "header is cut off" in entry_of(tmp_path / "m").refusal


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = make_model(tmp_path / "m")
    (folder / name).unlink()
    os.mkfifo(folder / name)

    assert entry_of(folder).refusal == f"{name} is not a plain file"


def test_link_out_of_the_cache_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "cache" / "m")
    (folder / "config.json").rename(tmp_path / "outside.json")
    (folder / "config.json").symlink_to(tmp_path / "outside.json")

    assert "leads out of" in entry_of(folder, tmp_path / "cache").refusal


def test_every_place_is_looked_at(tmp_path: Path) -> None:
    make_model(tmp_path / "own" / "mine")
    repository = hub(tmp_path) / "models--org--name"
    for revision in (MAIN, OTHER):
        make_model(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(MAIN)
    make_model(tmp_path / ".lmstudio" / "models" / "pub" / "m")

    found = listed(tmp_path)

    assert list(found) == ["bundled", "mine", "org/name", f"org/name@{'b' * 12}", "lmstudio:pub/m"]
    assert found["org/name"].path.endswith(MAIN)


def test_hundreds_are_listed_quickly(tmp_path: Path) -> None:
    for number in range(300):
        make_model(hub(tmp_path) / f"models--org--m{number}" / "snapshots" / MAIN)
    began = time.monotonic()

    assert len(listed(tmp_path)) == 301
    assert time.monotonic() - began < 3


def test_id_finds_the_model_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    make_model(tmp_path / "hub" / "models--org--name" / "snapshots" / MAIN)

    source = find_model("org/name", tmp_path / "own", lambda _share, _text: None)

    assert (source.model_id, source.path.name) == ("org/name", MAIN)


def test_unknown_id_names_what_is_here(tmp_path: Path) -> None:
    make_model(tmp_path / "own" / "mine")

    with pytest.raises(ModelNotFoundError, match="bundled, mine"):
        find_place("other", tmp_path / "own", {"HOME": str(tmp_path)})


def test_path_is_shown_without_an_id(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")

    assert show_model(str(folder), tmp_path / "own", ROOM).origin == "path"
