"""Turns what a person wrote into the value of a setting.

Every function takes what a flag, an environment variable or a TOML file gave (text, or TOML's own
types) and raises ``ValueError`` with what the value must be, worded to follow the setting's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_HOST_NAME = re.compile(r"\*|[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*")
_ON = ("1", "true", "yes", "on")
_OFF = ("0", "false", "no", "off")


def setting(
    default: Any,
    parse: Callable[[object], Any],
    metavar: str,
    description: str,
    *,
    is_secret: bool = False,
) -> Any:
    """A field of the settings with what the command line, files and docs need to know of it."""
    metadata = {
        "parse": parse,
        "metavar": metavar,
        "description": description,
        "is_secret": is_secret,
    }
    return field(default=default, metadata=metadata, repr=not is_secret)


def parse_text(given: object) -> str:
    """Text that is not empty and has no control characters."""
    if not isinstance(given, str) or not given.strip() or not given.isprintable():
        raise ValueError("must be text")
    return given


def parse_host_names(given: object) -> tuple[str, ...]:
    """Host names or addresses, without ports: a list, or text with commas between them."""
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, Sequence):
        raise ValueError("must be a list of host names")
    names = tuple(str(name).strip().lower() for name in listed)
    if not all(_HOST_NAME.fullmatch(name) for name in names):
        raise ValueError("must be host names without ports, like stoker.local,192.168.1.5")
    return names


def parse_switch(given: object) -> bool:
    """On or off, in the usual spellings."""
    if isinstance(given, bool):
        return given
    text = given.lower() if isinstance(given, str) else ""
    if text not in _ON + _OFF:
        raise ValueError("must be true or false")
    return text in _ON


def parse_bytes(given: object) -> int:
    """A number of bytes, plain or with a unit: 6GB is 6 * 10**9, 6GiB is 6 * 2**30."""
    match = None if isinstance(given, bool) else _SIZE.fullmatch(str(given).strip())
    if match is None:
        raise ValueError("must be a number of bytes like 6GB, 512MiB or 0")
    number, unit = match.groups(default="")
    return int(float(number) * _UNITS[unit.lower()])


def parse_choice(*choices: str) -> Callable[[object], str]:
    """One of a few words."""

    def parse(given: object) -> str:
        if given not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(given)

    return parse


def parse_one_of(*numbers: int) -> Callable[[object], int]:
    """One of a few whole numbers; where 0 is one of them, ``none`` is the same."""
    values = {str(number): number for number in numbers}
    if 0 in numbers:
        values["none"] = 0

    def parse(given: object) -> int:
        text = "" if isinstance(given, bool) else str(given).strip().lower()
        if text not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return values[text]

    return parse


def parse_number(
    kind: type[int] | type[float], low: float, high: float
) -> Callable[[object], int | float]:
    """A number of one kind within bounds, both included."""

    def parse(given: object) -> int | float:
        error = ValueError(f"must be a number from {low} to {high}")
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise error
        try:
            number = kind(given)
        except (ValueError, OverflowError):
            raise error from None
        if not low <= number <= high or number != float(given):
            raise error
        return number

    return parse
