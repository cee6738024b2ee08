"""Settings, and where each of them came from."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.api_keys import check_distinct, read_key_file
from app.model_defaults import defaults_of
from app.model_settings import BUNDLED_MODEL as BUNDLED_MODEL
from app.model_settings import ModelSettings
from app.paths import find_paths
from app.setting_values import (
    parse_bytes,
    parse_choice,
    parse_number,
    parse_one_of,
    parse_switch,
    setting,
)
from engine.cache.quantisation import (
    DEFAULT_GROUP_SIZE,
    KV_BITS,
    KV_GROUP_SIZES,
    KVQuantisation,
)
from engine.errors import StokerError
from styles.theme_names import DARK as DEFAULT_THEME
from styles.theme_names import THEME_WORDS

DEFAULT = "default"
PROJECT_FILE = "stoker.toml"
ENVIRONMENT_PREFIX = "STOKER_"
_ANY_ADDRESS = "0.0.0.0"


class ConfigError(StokerError):
    """A setting cannot be used; the message names it and where it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ModelSettings):
    """Everything that can be set; models and access are in the classes it is made from.

    Attributes:
        memory_limit_bytes: Bytes that model, caches and all else may take; 0 lets Stoker choose.
        kv_budget_bytes: Bytes of KV cache in RAM; 0 lets Stoker choose.
        kv_disk_bytes: Bytes of KV cache on disk; 0 keeps none.
        kv_bits: Bits of keys and values in the KV cache, 8 or 4; 0 keeps them as computed.
        kv_group_size: Numbers that share a scale where ``kv_bits`` is set.
        max_waiting: Requests that may wait before more are turned away.
        decode_stall_ms: How long a prefill slice may hold up running sequences, in milliseconds.
        batch_window_ms: How long an idle engine waits for company for a first request, in
            milliseconds.
        theme: Name of the dashboard's theme.
        plain_glyphs: Whether the dashboard is drawn with ASCII marks only.
        log_level: Lowest level that is logged.
        log_format: ``human`` writes lines to read, ``json`` objects for programs.
        origins: For each field, where its value was given.
    """

    memory_limit_bytes: int = setting(
        0,
        parse_bytes,
        "SIZE",
        "memory for model, caches and all else, e.g. 16GB; 0 lets Stoker choose",
    )
    kv_budget_bytes: int = setting(
        0, parse_bytes, "SIZE", "KV cache in RAM, e.g. 6GB; 0 lets Stoker choose"
    )
    kv_disk_bytes: int = setting(
        20_000_000_000, parse_bytes, "SIZE", "KV cache on disk, e.g. 20GB; 0 keeps none"
    )
    kv_bits: int = setting(
        0,
        parse_one_of(0, *KV_BITS),
        "0|8|4",
        "KV cache in 8 or 4 bits: smaller, and a little worse; 0 loses nothing",
    )
    kv_group_size: int = setting(
        DEFAULT_GROUP_SIZE,
        parse_one_of(*KV_GROUP_SIZES),
        "N",
        "numbers that share a scale with kv_bits: 32, 64 or 128",
    )
    max_waiting: int = setting(
        256,
        parse_number(int, 1, 100_000),
        "N",
        "requests that may wait before more are turned away",
    )
    decode_stall_ms: float = setting(
        200.0,
        parse_number(float, 1, 60_000),
        "MS",
        "how long a prefill slice may hold up running sequences",
    )
    batch_window_ms: float = setting(
        10.0,
        parse_number(float, 0, 10_000),
        "MS",
        "how long an idle engine waits for company for a first request",
    )
    theme: str = setting(
        DEFAULT_THEME,
        parse_choice(*THEME_WORDS),
        "NAME",
        f"theme the dashboard opens in, not the last one chosen there: {', '.join(THEME_WORDS)}",
    )
    plain_glyphs: bool = setting(
        False,
        parse_switch,
        "",
        "draw the dashboard with ASCII marks only, for fonts that lack the others",
    )
    log_level: str = setting(
        "info",
        parse_choice("debug", "info", "warning", "error"),
        "LEVEL",
        "lowest level that is logged: debug, info, warning or error",
    )
    log_format: Literal["human", "json"] = setting(
        "human",
        parse_choice("human", "json"),
        "human|json",
        "lines of the log: for people, or one JSON object each",
    )
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def given_theme(self) -> str | None:
        """The theme where one was set, None where the dashboard may choose."""
        return None if self.origins.get("theme", DEFAULT) == DEFAULT else self.theme

    @property
    def quantisation(self) -> KVQuantisation | None:
        """How keys and values are kept where nothing is set for a model; None for lossless."""
        return KVQuantisation(self.kv_bits, self.kv_group_size) if self.kv_bits else None

    @property
    def model_quantisation(self) -> KVQuantisation | None:
        """How those of the model that is loaded first are kept; None for lossless."""
        return defaults_of(self.model_defaults, self.model).quantisation(self.quantisation)


@dataclass(frozen=True, slots=True)
class SettingField:
    """One field of ``Settings``.

    Attributes:
        name: Its name; also its key in ``stoker.toml``.
        default: Its value where nothing is set.
        parse: Turns what was given into its value, or raises ValueError saying what it must be.
        metavar: What stands for its value in help texts.
        description: What it is, for people.
        is_secret: Whether its value must not be shown or given on a command line.
    """

    name: str
    default: Any
    parse: Callable[[object], Any]
    metavar: str
    description: str
    is_secret: bool

    @property
    def flag(self) -> str:
        """Its command line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()


SETTING_FIELDS = {
    item.name: SettingField(
        name=item.name,
        default=item.default,
        **item.metadata,
    )
    for item in dataclasses.fields(Settings)
    if item.metadata
}


def load_settings(
    flags: Mapping[str, object],
    *,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Settings:
    """Reads all settings: command line, environment, project file, user's file, defaults.

    Args:
        flags: Values given on the command line, by field name.
        environ: Environment variables.
        directory: Where to look for the project's ``stoker.toml``; the current one by default.

    Raises:
        ConfigError: A value cannot be used.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(SETTING_FIELDS, DEFAULT)
    layers = [
        _read_file(find_paths(environ).config_file),
        _read_file((directory or Path.cwd()) / PROJECT_FILE),
        _read_environment(environ),
        {name: (SETTING_FIELDS[name].flag, value) for name, value in flags.items()},
    ]
    for layer in layers:
        for name, (origin, given) in layer.items():
            values[name] = _parse(SETTING_FIELDS[name], given, origin)
            origins[name] = origin
    settings = _with_key_of_file(Settings(**values, origins=origins))
    _check_keys(settings)
    return _check_reach(settings)


def _read_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, object]]:
    return {
        item.name: (item.variable, environ[item.variable])
        for item in SETTING_FIELDS.values()
        if environ.get(item.variable)  # empty is the same as not set
    }


def _read_file(path: Path) -> dict[str, tuple[str, object]]:
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # bad TOML or bad UTF-8
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    for name in given:
        if name not in SETTING_FIELDS:
            close = difflib.get_close_matches(name, SETTING_FIELDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`stoker config show` lists them all"
            raise ConfigError(f"{path}: there is no setting {name!r}: {hint}")
    return {name: (str(path), value) for name, value in given.items()}


def _parse(item: SettingField, given: object, origin: str) -> Any:
    try:
        return item.parse(given)
    except ValueError as error:
        place = f"{origin}: {item.name}" if origin.endswith(".toml") else origin
        if isinstance(given, Mapping):  # the error names what of it
            raise ConfigError(f"{place} {error}") from error
        shown = "its value" if item.is_secret else repr(given)
        raise ConfigError(f"{place} {error}, not {shown}") from error


def _with_key_of_file(settings: Settings) -> Settings:
    """Settings with the operator's key, where it is in a file of its own.

    Raises:
        ConfigError: The file cannot be used, or the key is given twice.
    """
    if not settings.api_key_file:
        return settings
    origin = settings.origins["api_key_file"]
    if settings.api_key:
        raise ConfigError(f"{origin}: api_key is set as well as api_key_file: remove one of them")
    try:
        key = read_key_file(Path(settings.api_key_file).expanduser())
    except ValueError as error:
        raise ConfigError(f"{origin}: api_key_file {error}") from error
    origins = {**settings.origins, "api_key": settings.api_key_file}
    return dataclasses.replace(settings, api_key=key, origins=origins)


def _check_keys(settings: Settings) -> None:
    """Sees to it that a key tells whose it is.

    Raises:
        ConfigError: A named key is the operator's as well.
    """
    simple = [settings.api_key] if settings.api_key else []
    try:
        check_distinct([*simple, *(key.secret for key in settings.api_keys)])
    except ValueError as error:
        raise ConfigError(f"api_key and api_keys {error}") from error


def _check_reach(settings: Settings) -> Settings:
    """Sees to it that the API is open to other machines on purpose only, and then with a key.

    Raises:
        ConfigError: The API would be reachable from other machines against that rule.
    """
    if settings.allow_remote and not (settings.api_key or settings.api_keys):
        raise ConfigError(
            "allow_remote needs a key: set STOKER_API_KEY, or api_key_file in stoker.toml"
        )
    if settings.allow_remote and settings.origins["host"] == DEFAULT:
        origins = {**settings.origins, "host": settings.origins["allow_remote"]}
        return dataclasses.replace(settings, host=_ANY_ADDRESS, origins=origins)
    if not settings.allow_remote and not _is_loopback(settings.host):
        raise ConfigError(
            f"{settings.origins['host']}: host {settings.host!r} can be reached from other "
            "machines: add --allow-remote and a key, or use 127.0.0.1"
        )
    return settings


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
