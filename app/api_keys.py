"""Named API keys: one for each of those who share a Stoker but must not share what they ask."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_FILE_BYTES = 4096
_FORM = "must name keys like alice=KEY,bob=KEY"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key with a name.

    Attributes:
        name: Whose key it is. Caches are kept apart by this name, so they outlive a change of the
            key.
        secret: What clients send.
    """

    name: str
    secret: str = field(repr=False)


def parse_api_keys(given: object) -> tuple[ApiKey, ...]:
    """Keys from a TOML table (name to key), or from text like ``alice=KEY,bob=KEY``.

    Raises:
        ValueError: It is neither, a name or a key cannot be used, or two are the same; worded to
            follow the setting's name, without any key.
    """
    if isinstance(given, str):
        pairs = [_split(item) for item in given.split(",")]
    elif isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        raise ValueError(_FORM)
    keys = tuple(ApiKey(_name(name), _secret(name, secret)) for name, secret in pairs)
    if len({key.name for key in keys}) < len(keys):
        raise ValueError("must name each key once")
    check_distinct(key.secret for key in keys)
    return keys


def read_key_file(path: Path) -> str:
    """The one key in a file, without the spaces and line ends around it.

    Raises:
        ValueError: It cannot be read, is not its owner's alone, or holds no key; worded to follow
            the setting's name, without the key.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if status.st_uid not in (os.geteuid(), 0):
        raise ValueError(f"{str(path)!r} belongs to another user: make a copy of your own")
    if stat.S_IMODE(status.st_mode) & 0o077:
        what_to_do = f"chmod 600 {shlex.quote(str(path))}"
        raise ValueError(f"{str(path)!r} can be used by others: run `{what_to_do}`")
    try:
        key = content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} must hold text") from error
    if not key or not key.isprintable() or len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"{str(path)!r} must hold one key on one line")
    return key


def check_distinct(secrets: Iterable[str]) -> None:
    """Refuses a key that is used twice: nobody could tell whose it is.

    Raises:
        ValueError: There is one.
    """
    listed = list(secrets)
    if len(set(listed)) < len(listed):
        raise ValueError("must give everybody a key of their own")


def _split(item: str) -> tuple[str, str]:
    name, mark, secret = item.partition("=")
    if not mark:
        raise ValueError(_FORM)
    return name.strip(), secret.strip()


def _name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("must have names of 1 to 64 letters, digits, dots, dashes or underscores")
    return name


def _secret(name: object, secret: object) -> str:
    if not isinstance(secret, str) or not secret.strip() or not secret.isprintable():
        raise ValueError(f"must have text as the key of {name}")
    return secret
