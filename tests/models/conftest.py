"""Model folders with the bundled tokenizer and other chat templates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Protocol

import pytest
from tokenizers import AddedToken, Tokenizer

from engine.models.chat import ModelChat


class MakeChat(Protocol):
    """Makes the text side of a model that has the bundled tokenizer and a given template."""

    def __call__(self, template: str, *special_strings: str) -> ModelChat:
        """A model with these special tokens beside those it has."""


@pytest.fixture(scope="session")
def bundled_chat(bundled_model_dir: Path) -> ModelChat:
    """The text side of the bundled model."""
    return ModelChat(bundled_model_dir)


@pytest.fixture
def make_chat(bundled_model_dir: Path, tmp_path: Path) -> MakeChat:
    def make(template: str, *special_strings: str) -> ModelChat:
        shutil.copy(bundled_model_dir / "config.json", tmp_path / "config.json")
        tokenizer = Tokenizer.from_file(str(bundled_model_dir / "tokenizer.json"))
        tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special_strings])
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        config = json.loads((bundled_model_dir / "tokenizer_config.json").read_text())
        config["chat_template"] = template
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return ModelChat(tmp_path)

    return make
