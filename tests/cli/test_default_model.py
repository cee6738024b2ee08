"""The settings file keeps every other line when the default model is written into it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from app.config import ConfigError
from app.models_keep_command import set_default, with_model


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'model = "org/x"\n'),
        ("port = 9000  # mine\n", 'model = "org/x"\nport = 9000  # mine\n'),
        ('# mine\nmodel = "old" # why\nport = 1\n', '# mine\nmodel = "org/x"\nport = 1\n'),
        (
            "[model_defaults.a]\nmodel = 1\n",
            'model = "org/x"\n[model_defaults.a]\nmodel = 1\n',
        ),
    ],
)
def test_one_line_changes(before: str, after: str) -> None:
    assert with_model(before, "org/x") == after


@pytest.mark.parametrize("reference", ['a"b', "C:\\models\\x", "plain"])
def test_any_name_comes_back(tmp_path: Path, reference: str) -> None:
    path = tmp_path / "deep" / "stoker.toml"
    set_default(path, reference)
    assert tomllib.loads(path.read_text())["model"] == reference


def test_a_file_that_is_no_toml_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "stoker.toml"
    path.write_text("model = \n")
    with pytest.raises(ConfigError, match="Invalid value"):
        set_default(path, "x")
    assert path.read_text() == "model = \n"
