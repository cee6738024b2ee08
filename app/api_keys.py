"""Named API keys: one for each of those who share a Stoker but must not share what they ask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
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
