"""Reading a JSON request field by field, with errors that name the field."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pydantic_core import from_json

from app.api.errors import FieldError
from engine.errors import InvalidRequestError

_INT64 = 2**63


def parse_object(body: bytes) -> Fields:
    """Parses a request body.

    Depth and digits are bounded by the parser; NaN, infinity and lone surrogates are refused.

    Raises:
        InvalidRequestError: The body is not a JSON object.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequestError(f"the request body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError("the request body must be a JSON object")
    return Fields(value)


class Fields:
    """One JSON object of a request and its path. Null counts as absent."""

    __slots__ = ("_path", "values")

    def __init__(self, values: dict[str, object], path: str = "") -> None:
        self.values = values
        self._path = path

    def path(self, name: str) -> str:
        """The full path of a field, e.g. ``messages.0.content``."""
        return f"{self._path}.{name}" if self._path else name

    def error(self, name: str, problem: str) -> FieldError:
        """An error about one field, ready to raise."""
        return FieldError(self.path(name), problem)

    def get(self, name: str) -> object:
        """The raw value; None where it is absent."""
        return self.values.get(name)

    def filled(self, defaults: Mapping[str, object]) -> Fields:
        """The same object, with defaults for what is absent."""
        missing = {name: value for name, value in defaults.items() if self.get(name) is None}
        return Fields({**self.values, **missing}, self._path)

    def text(self, name: str) -> str | None:
        """A string, or None.

        Raises:
            FieldError: It is something else.
        """
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.error(name, "must be a string")

    def required_text(self, name: str) -> str:
        """A string that has to be there.

        Raises:
            FieldError: It is absent or something else.
        """
        value = self.text(name)
        if value is None:
            raise self.error(name, "field required")
        return value

    def flag(self, name: str) -> bool:
        """A boolean; False where it is absent.

        Raises:
            FieldError: It is something else.
        """
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self.error(name, "must be true or false")

    def number(self, name: str, default: float) -> float:
        """A finite number, or the default.

        Raises:
            FieldError: It is something else.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(name, "must be a number")
        if not -_INT64 < value < _INT64:  # also false for NaN; too big an int is no float
            raise self.error(name, "is out of range")
        return float(value)

    def integer(self, name: str) -> int | None:
        """A whole number of any size, or None.

        Raises:
            FieldError: It is something else.
        """
        value = self.values.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            return int(value)
        raise self.error(name, "must be an integer")

    def small_integer(self, name: str, default: int) -> int:
        """A whole number of 64 bits, or the default.

        Raises:
            FieldError: It is something else.
        """
        value = self.integer(name)
        if value is None:
            return default
        if not -_INT64 <= value < _INT64:
            raise self.error(name, "is out of range")
        return value

    def child(self, name: str) -> Fields | None:
        """A nested object, or None.

        Raises:
            FieldError: It is something else.
        """
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(name, "must be an object")
        return Fields(value, self.path(name))

    def children(self, name: str) -> Iterator[Fields]:
        """The objects of a nested list; none where it is absent.

        Raises:
            FieldError: It is no list, or one of its items is no object.
        """
        value = self.values.get(name)
        if value is None:
            return
        if not isinstance(value, list):
            raise self.error(name, "must be a list")
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.error(f"{name}.{index}", "must be an object")
            yield Fields(item, self.path(f"{name}.{index}"))

    def texts(self, name: str) -> tuple[str, ...]:
        """A string or a list of strings, as a tuple; empty where it is absent.

        Raises:
            FieldError: It is something else.
        """
        value = self.values.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            raise self.error(name, "must be a string or a list of strings")
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise self.error(f"{name}.{index}", "must be a string")
        return tuple(value)
