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


def write_key(folder: Path, content: bytes = b"hunter2\n", mode: int = 0o600) -> Path:
    path = folder / "operator key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_operators_key_comes_from_a_file(folder: Path) -> None:
    path = write_key(folder)
    settings = load(folder, STOKER_API_KEY_FILE=str(path), STOKER_ALLOW_REMOTE="1")
    assert settings.api_key == "hunter2"
    assert settings.origins["api_key"] == str(path)
    paths = find_paths({"STOKER_HOME": str(folder)})
    assert "hunter2" not in settings_as_json(settings, paths)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_key_file_that_others_can_use_is_refused_with_what_to_do(folder: Path, mode: int) -> None:
    path = write_key(folder, mode=mode)
    with pytest.raises(ConfigError) as caught:
        load(folder, STOKER_API_KEY_FILE=str(path))
    assert str(caught.value).startswith("STOKER_API_KEY_FILE: api_key_file")
    assert f"run `chmod 600 '{path}'`" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "must hold one key on one line"),
        (b" \n", "must hold one key on one line"),
        (b"one\ntwo\n", "must hold one key on one line"),
        (b"a\x00b", "must hold one key on one line"),
        (b"x" * 5000, "must hold one key on one line"),
        (b"\xff\xfe", "must hold text"),
    ],
)
def test_a_key_file_holds_one_key(folder: Path, content: bytes, complaint: str) -> None:
    path = write_key(folder, content)
    with pytest.raises(ConfigError, match=complaint):
        load(folder, STOKER_API_KEY_FILE=str(path))


def test_a_key_file_has_to_be_there_and_to_be_the_only_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(folder, STOKER_API_KEY_FILE=str(folder / "nix"))
    path = write_key(folder)
    with pytest.raises(ConfigError, match="remove one of them"):
        load(folder, STOKER_API_KEY_FILE=str(path), STOKER_API_KEY="other")
    with pytest.raises(ConfigError, match="a key of their own"):
        load(folder, STOKER_API_KEY_FILE=str(path), STOKER_API_KEYS="alice=hunter2")


@pytest.mark.parametrize("given", ["localhost:80", "a b", "http://x", "", "a,,b", "-x", "a/b"])
def test_allowed_hosts_are_names(folder: Path, given: str) -> None:
    (folder / "stoker.toml").write_text(f"allowed_hosts = [{given!r}]")
    with pytest.raises(ConfigError, match="must be host names without ports"):
        load(folder)


def test_allowed_hosts_come_as_text_or_list(folder: Path) -> None:
    names = ("stoker.local", "192.168.1.5", "fe80::1", "*")
    assert load(folder, STOKER_ALLOWED_HOSTS=", ".join(names)).allowed_hosts == names
    (folder / "stoker.toml").write_text('allowed_hosts = ["Stoker.local"]')
    assert load(folder).allowed_hosts == ("stoker.local",)
