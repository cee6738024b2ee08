"""Model folders with the bundled tokenizer and other chat templates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.models.chat import ModelChat

MakeChat = Callable[[str], ModelChat]


@pytest.fixture(scope="session")
def bundled_chat(bundled_model_dir: Path) -> ModelChat:
    """The text side of the bundled model."""
    return ModelChat(bundled_model_dir)


@pytest.fixture
def make_chat(bundled_model_dir: Path, tmp_path: Path) -> MakeChat:
    """Makes the text side of a model that has the bundled tokenizer and a given template."""

    def make(template: str) -> ModelChat:
        for name in ("config.json", "tokenizer.json"):
            shutil.copy(bundled_model_dir / name, tmp_path / name)
        config = json.loads((bundled_model_dir / "tokenizer_config.json").read_text())
        config["chat_template"] = template
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return ModelChat(tmp_path)

    return make
