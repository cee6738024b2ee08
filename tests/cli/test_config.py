from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import ConfigError, Settings, load_settings
from app.config_show import settings_as_json
from app.model_aliases import ModelAlias, ModelAliases
from app.paths import find_paths
from engine.cache.quantisation import KVQuantisation


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder without settings."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder without settings."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def load(home: Path, project: Path, flags: dict[str, object], **variables: str) -> Settings:
    environ = {"STOKER_HOME": str(home), **variables}
    return load_settings(flags, environ=environ, directory=project)


def test_defaults_need_nothing(home: Path, project: Path) -> None:
    settings = load(home, project, {})

    assert (settings.model, settings.host, settings.port) == ("bundled", "127.0.0.1", 8000)
    assert set(settings.origins.values()) == {"default"}


def test_each_layer_outranks_the_one_below(home: Path, project: Path) -> None:
    user_file, project_file = home / "stoker.toml", project / "stoker.toml"
    user_file.write_text("port = 1\nmax_waiting = 1\nbatch_window_ms = 1\ntheme = 'stoker-light'")
    project_file.write_text("port = 2\nmax_waiting = 2\nbatch_window_ms = 2")
    variables = {"STOKER_PORT": "3", "STOKER_MAX_WAITING": "3"}

    settings = load(home, project, {"port": "4"}, **variables)

    assert (settings.port, settings.origins["port"]) == (4, "--port")
    assert (settings.max_waiting, settings.origins["max_waiting"]) == (3, "STOKER_MAX_WAITING")
    assert (settings.batch_window_ms, settings.origins["batch_window_ms"]) == (
        2.0,
        str(project_file),
    )
    assert (settings.theme, settings.origins["theme"]) == ("stoker-light", str(user_file))
    assert settings.origins["model"] == "default"


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("0", 0),
        ("1024", 1024),
        ("6GB", 6 * 10**9),
        ("6 gb", 6 * 10**9),
        ("6G", 6 * 10**9),
        ("6GiB", 6 * 2**30),
        ("1.5MB", 1_500_000),
        ("512k", 512_000),
    ],
)
def test_sizes_have_units(home: Path, project: Path, text: str, num_bytes: int) -> None:
    settings = load(home, project, {}, STOKER_KV_BUDGET_BYTES=text)

    assert settings.kv_budget_bytes == num_bytes


@pytest.mark.parametrize(
    ("variable", "given", "complaint"),
    [
        ("STOKER_PORT", "http", "STOKER_PORT must be a number from 0 to 65535, not 'http'"),
        ("STOKER_PORT", "70000", "STOKER_PORT must be a number"),
        ("STOKER_PORT", "80.5", "STOKER_PORT must be a number"),
        ("STOKER_MAX_WAITING", "0", "STOKER_MAX_WAITING must be a number from 1"),
        ("STOKER_DECODE_STALL_MS", "nan", "STOKER_DECODE_STALL_MS must be a number"),
        ("STOKER_KV_BUDGET_BYTES", "lots", "STOKER_KV_BUDGET_BYTES must be a number of bytes"),
        ("STOKER_KV_BUDGET_BYTES", "-1", "STOKER_KV_BUDGET_BYTES must be a number of bytes"),
        ("STOKER_UNKNOWN_MODEL", "maybe", "must be one of active, reject"),
        ("STOKER_ALLOW_REMOTE", "perhaps", "must be true or false"),
        ("STOKER_LOG_LEVEL", "loud", "must be one of debug"),
        ("STOKER_MODEL", "a\x1b[2Jb", "STOKER_MODEL must be text"),
    ],
)
def test_bad_variable_is_named(
    home: Path, project: Path, variable: str, given: str, complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(home, project, {}, **{variable: given})

    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ("port = 'x'", "port must be a number"),
        ("port = true", "port must be a number"),
        ("port = inf", "port must be a number"),
        ("port = [1]", "port must be a number"),
        ("model = 3", "model must be text"),
        ("prot = 1", "no setting 'prot': did you mean 'port'?"),
        ("zzz = 1", "`stoker config show` lists them all"),
        ("port = ", "stoker.toml: "),
    ],
)
def test_bad_file_is_named_with_the_setting(
    home: Path, project: Path, toml: str, complaint: str
) -> None:
    path = project / "stoker.toml"
    path.write_text(toml)

    with pytest.raises(ConfigError) as caught:
        load(home, project, {})

    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_is_no_text_is_named(home: Path, project: Path) -> None:
    (project / "stoker.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match=r"stoker\.toml"):
        load(home, project, {})


def test_empty_variable_is_the_same_as_none(home: Path, project: Path) -> None:
    assert load(home, project, {}, STOKER_PORT="").port == 8000


def test_key_never_shows(home: Path, project: Path) -> None:
    settings = load(home, project, {}, STOKER_API_KEY="hunter2")

    assert settings.api_key == "hunter2"
    assert "hunter2" not in repr(settings)
    (project / "stoker.toml").write_text("api_key = 918273645")
    with pytest.raises(ConfigError) as caught:
        load(home, project, {})
    assert "918273645" not in str(caught.value)


def test_open_door_needs_a_key(home: Path, project: Path) -> None:
    with pytest.raises(ConfigError, match="needs a key"):
        load(home, project, {"allow_remote": True})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_open_address_needs_a_decision(home: Path, project: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="--allow-remote"):
        load(home, project, {"host": host}, STOKER_API_KEY="k")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_own_addresses_need_nothing(home: Path, project: Path, host: str) -> None:
    assert load(home, project, {"host": host}).host == host


def test_allowing_remote_clients_listens_to_them(home: Path, project: Path) -> None:
    settings = load(home, project, {"allow_remote": True}, STOKER_API_KEY="k")

    assert (settings.host, settings.origins["host"]) == ("0.0.0.0", "--allow-remote")


def test_allowing_remote_clients_keeps_a_chosen_host(home: Path, project: Path) -> None:
    flags: dict[str, object] = {"allow_remote": True, "host": "127.0.0.1"}

    assert load(home, project, flags, STOKER_API_KEY="k").host == "127.0.0.1"


@given(port=st.integers(0, 65535))
def test_every_port_survives_every_way_in(port: int) -> None:
    environ = {"STOKER_HOME": "/nowhere", "STOKER_PORT": str(port)}
    nowhere = Path("/nowhere")

    assert load_settings({}, environ=environ, directory=nowhere).port == port
    assert load_settings({"port": str(port)}, environ={}, directory=nowhere).port == port


def test_home_moves_everything(tmp_path: Path) -> None:
    paths = find_paths({"STOKER_HOME": str(tmp_path)})

    folders = [paths.config_dir, paths.data_dir, paths.cache_dir, paths.log_dir, paths.models_dir]
    assert all(folder.is_relative_to(tmp_path) for folder in folders)


def test_aliases_come_from_a_table_or_from_text(home: Path, project: Path) -> None:
    (project / "stoker.toml").write_text('[aliases]\n"claude-*" = "org/name"\nfast = "active"')

    settings = load(home, project, {})
    assert [str(a.model) for a in settings.aliases] == ["org/name", "active"]
    assert '"claude-*": "org/name"' in settings_as_json(settings, find_paths({}))

    settings = load(home, project, {}, STOKER_ALIASES="a=org/x, b*=active")
    assert settings.aliases == (ModelAlias("a", "org/x"), ModelAlias("b*", "active"))


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "=x",
        "a=",
        "a*b=x",
        "**=x",
        "a=x,a=y",
        "a\x1b=x",
        "a=x\x1b",
        "active=x",
        "x" * 201 + "=y",
    ],
)
def test_alias_that_cannot_be_used_is_refused(home: Path, project: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"STOKER_ALIASES must (name|have|give)"):
        load(home, project, {}, STOKER_ALIASES=text)


def test_closest_alias_wins_and_a_models_own_name_is_never_an_alias() -> None:
    aliases = ModelAliases(
        [
            ModelAlias("claude-*", "big"),
            ModelAlias("claude-haiku-*", "small"),
            ModelAlias("claude-haiku-4", "tiny"),
            ModelAlias("here", "big"),
        ]
    )
    asked = ("claude-opus-4", "claude-haiku-9", "claude-haiku-4", "gpt-5", "here", "", "else")

    assert [aliases.meant(name, "here") for name in asked] == [
        "big",
        "small",
        "tiny",
        "here",
        "here",
        "here",
        "else",
    ]


def test_single_models_have_settings_of_their_own(home: Path, project: Path) -> None:
    (project / "stoker.toml").write_text(
        "kv_bits = 8\n[model_defaults.bundled]\nkv_bits = 4\ntemperature = 0.7\n"
        '[model_defaults."org/name"]\nsystem_prefix = "Be brief."'
    )

    settings = load(home, project, {})
    assert settings.model_quantisation == KVQuantisation(4)
    assert settings.quantisation == KVQuantisation(8)
    shown = json.loads(settings_as_json(settings, find_paths({"STOKER_HOME": str(home)})))
    assert shown["settings"]["model_defaults"]["value"] == {
        "bundled": {"temperature": 0.7, "kv_bits": 4},
        "org/name": {"system_prefix": "Be brief."},
    }
    assert shown["kv_cache"]["format"] == "q4g64"

    text = '{"org/name": {"temperature": 0.1}}'
    settings = load(home, project, {}, STOKER_MODEL_DEFAULTS=text)
    assert [named.model for named in settings.model_defaults] == ["org/name"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "must be a table of models"),
        ("[]", "must be a table of models"),
        ('{"m": 1}', "must be a table of models"),
        ('{" ": {}}', "must call each model by its name"),
        ('{"m": {"temprature": 1}}', "cannot have 'temprature' for 'm': did you mean temperature?"),
        ('{"m": {"temperature": 9}}', "of 'm': temperature must be a number from 0 to 5, not 9"),
        ('{"m": {"kv_bits": 3}}', "of 'm': kv_bits must be one of 0, 8, 4, none, not 3"),
        ('{"m": {"tool_format": "x"}}', "of 'm': tool_format must be one of auto, hermes"),
        ('{"m": {"system_prefix": 3}}', "of 'm': system_prefix must be text"),
    ],
)
def test_setting_of_a_model_that_cannot_be_used_is_named(
    home: Path, project: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(home, project, {}, STOKER_MODEL_DEFAULTS=text)
    assert words in str(raised.value)
