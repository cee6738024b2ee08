"""The guide to a new model family names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "adding-a-model.md").read_text("utf-8")
FILES = sorted(set(re.findall(r"`((?:engine|tests)/[\w/.]+\.(?:py|json))`", GUIDE)))
NAMES = {
    "_KINDS_BY_NAME": "engine/cache/layers/pattern.py",
    "_READERS": "engine/cache/layers/pattern.py",
    "first_of": "engine/cache/layers/config.py",
    "_STATES": "engine/cache/layers/extractors.py",
    "_FAMILY_DEFAULTS": "engine/cache/layers/config.py",
    "_CODECS": "engine/runtime/layer_codecs.py",
    "checkpoint": "engine/runtime/layer_codecs.py",
    "WINDOWED": "tests/runtime/tiny_models.py",
    "NEED_CHECKPOINTS": "tests/runtime/tiny_models.py",
    "SPLIT_ATTENTION": "tests/runtime/tiny_models.py",
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_there(name: str) -> None:
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_names_are_in_their_files(name: str) -> None:
    assert f"`{name}`" in GUIDE
    assert name in (ROOT / NAMES[name]).read_text("utf-8")


def test_guide_names_enough_to_be_checked() -> None:
    assert len(FILES) > 15
