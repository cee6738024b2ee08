"""Named keys in the settings: how they are given, and that they never show."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.api_keys import ApiKey
from app.config import ConfigError, Settings, load_settings
from app.config_show import settings_as_json, settings_as_table
from app.paths import find_paths

BOTH = (ApiKey("alice", "hunter2"), ApiKey("bob", "swordfish"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is the user's and the project's at once."""
    return tmp_path


def load(folder: Path, **variables: str) -> Settings:
    return load_settings({}, environ={"STOKER_HOME": str(folder), **variables}, directory=folder)


def test_keys_come_from_a_variable(folder: Path) -> None:
    assert load(folder, STOKER_API_KEYS="alice=hunter2, bob=swordfish").api_keys == BOTH


@pytest.mark.parametrize(
    "toml",
    [
        '[api_keys]\nalice = "hunter2"\nbob = "swordfish"',
        'api_keys = { alice = "hunter2", bob = "swordfish" }',
        'api_keys = "alice=hunter2,bob=swordfish"',
    ],
)
def test_keys_come_from_a_file(folder: Path, toml: str) -> None:
    (folder / "stoker.toml").write_text(toml)
    assert load(folder).api_keys == BOTH


def test_a_key_may_hold_an_equals_sign(folder: Path) -> None:
    assert load(folder, STOKER_API_KEYS="a=x==").api_keys == (ApiKey("a", "x=="),)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("hunter2", "must name keys like alice=KEY"),
        ("alice=hunter2,", "must name keys like alice=KEY"),
        ("=hunter2", "must have names of"),
        ("al ice=hunter2", "must have names of"),
        ("al/ice=hunter2", "must have names of"),
        ("alice=", "must have text as the key of alice"),
        ("alice=hunter2,alice=other", "must name each key once"),
        ("alice=hunter2,bob=hunter2", "must give everybody a key of their own"),
    ],
)
def test_wrong_keys_are_refused_without_showing_them(
    folder: Path, given: str, complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, STOKER_API_KEYS=given)
    assert complaint in str(caught.value)
    assert "STOKER_API_KEYS" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("toml", ["api_keys = 3", "[api_keys]\nalice = 3", '[api_keys.a]\nb = "c"'])
def test_wrong_tables_are_refused(folder: Path, toml: str) -> None:
    (folder / "stoker.toml").write_text(toml)
    with pytest.raises(ConfigError, match="api_keys must"):
        load(folder)


def test_the_operators_key_is_nobody_elses(folder: Path) -> None:
    with pytest.raises(ConfigError, match="a key of their own"):
        load(folder, STOKER_API_KEY="hunter2", STOKER_API_KEYS="alice=hunter2")


def test_named_keys_are_enough_to_let_other_machines_in(folder: Path) -> None:
    settings = load(folder, STOKER_ALLOW_REMOTE="1", STOKER_API_KEYS="alice=hunter2")
    assert settings.host == "0.0.0.0"


def test_names_are_shown_and_keys_are_not(folder: Path) -> None:
    settings = load(folder, STOKER_API_KEYS="alice=hunter2,bob=swordfish")
    paths = find_paths({"STOKER_HOME": str(folder)})
    for shown in (settings_as_json(settings, paths), settings_as_table(settings, paths)):
        assert "alice, bob (set, not shown)" in shown
        assert "hunter2" not in shown
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(settings.api_keys)
