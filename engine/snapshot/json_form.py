"""Rows as JSON values and back: exact within one version, forgiving between versions."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)
    Kind: typing.TypeAlias = type[DataclassInstance]
else:
    Row = TypeVar("Row")

_Read = Callable[["RowReader", object], Any]
_PLAIN: dict[Any, tuple[type, ...]] = {int: (int,), float: (float, int), str: (str,), bool: (bool,)}


class FormatError(ValueError):
    """A value is not what a row holds at that place, in this version or any other."""


class _UnknownMemberError(FormatError):
    """A word that another version may know."""


@dataclass(frozen=True, slots=True)
class VersionGap:
    """Where the rows of another version differ from those of this one.

    Attributes:
        unknown: Fields and words that this version does not know.
        missing: Fields that the other version does not have.
    """

    unknown: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.unknown or self.missing)

    @property
    def words(self) -> str:
        """What differs, on one line."""
        parts = [("not known here", self.unknown), ("not known there", self.missing)]
        return "; ".join(f"{words}: {', '.join(sorted(names))}" for words, names in parts if names)


def to_value(value: Any) -> Any:
    """A row, or what a field of one holds, as JSON-serialisable data; bytes become base64 text."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, tuple):
        return [to_value(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    kind: Kind = type(value)
    return {name: to_value(getattr(value, name)) for name in field_names(kind)}


@functools.cache
def field_names(kind: Kind) -> tuple[str, ...]:
    """The fields of a kind of row."""
    return tuple(field.name for field in dataclasses.fields(kind))


class RowReader:
    """Reads rows from JSON values, and remembers where their version differs from this one.

    A field that is not known is left out, one that is missing has its default, and so has one
    whose word is not known. Everything else has to be what the row says.
    """

    def __init__(self) -> None:
        """Has seen no difference yet."""
        self._unknown: set[str] = set()
        self._missing: set[str] = set()

    @property
    def gap(self) -> VersionGap:
        """The differences so far."""
        return VersionGap(frozenset(self._unknown), frozenset(self._missing))

    def row(self, kind: type[Row], data: object) -> Row:
        """A row from the object that ``to_value`` has made of it.

        Raises:
            FormatError: It is no such row.
        """
        values = self.fields(kind, data)
        if len(values) < len(field_names(kind)):
            for name, (_, is_needed) in _fields(kind).items():
                if name not in values:
                    self._miss(kind, name, is_needed, data)
        return kind(**values)

    def fields(self, kind: Kind, data: object) -> dict[str, Any]:
        """Those fields of a row that an object has, by name.

        Raises:
            FormatError: One of them is not what the row holds there.
        """
        if not isinstance(data, Mapping):
            raise FormatError(f"{kind.__name__} is no object")
        fields, values = _fields(kind), {}
        for name, value in data.items():
            if name not in fields:
                self._unknown.add(f"{kind.__name__}.{name}")
                continue
            try:
                values[name] = fields[name][0](self, value)
            except _UnknownMemberError as error:
                self._unknown.add(f"{kind.__name__}.{name} {error}")
            except FormatError as error:
                raise FormatError(f"{name}: {error}") from error
        return values

    def value(self, kind: Kind, name: str, data: object) -> Any:
        """What one field of a row holds.

        Raises:
            FormatError: It cannot be in that field.
        """
        return _fields(kind)[name][0](self, data)

    def note_unknown(self, word: str) -> None:
        """Remembers something that this version does not know."""
        self._unknown.add(word)

    def _miss(self, kind: Kind, name: str, is_needed: bool, data: object) -> None:
        if is_needed:
            raise FormatError(f"{kind.__name__} has no {name}")
        if isinstance(data, Mapping) and name not in data:
            self._missing.add(f"{kind.__name__}.{name}")


@functools.cache
def _fields(kind: Kind) -> dict[str, tuple[_Read, bool]]:
    """How each field is read, and whether a row cannot do without it."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: (
            _reader(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    }


def _reader(hint: Any) -> _Read:
    """How a value of some type is read."""
    if hint in _PLAIN:
        return functools.partial(_plain, hint)
    if hint is bytes:
        return _bytes
    if typing.get_origin(hint) is tuple:
        return functools.partial(_items, _reader(typing.get_args(hint)[0]))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = next(each for each in typing.get_args(hint) if each is not type(None))
        return functools.partial(_optional, _reader(inner))
    if issubclass(hint, StrEnum):
        return functools.partial(_member, hint)
    return lambda reader, data: reader.row(hint, data)


def _plain(kind: type[Any], _reader: RowReader, data: object) -> Any:
    is_kind = isinstance(data, _PLAIN[kind]) and (kind is bool or not isinstance(data, bool))
    if not is_kind:
        raise FormatError(f"{type(data).__name__} instead of {kind.__name__}")
    return data


def _bytes(_reader: RowReader, data: object) -> bytes:
    if not isinstance(data, str):
        raise FormatError(f"{type(data).__name__} instead of base64 text")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError("no base64 text") from error


def _items(read: _Read, reader: RowReader, data: object) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise FormatError(f"{type(data).__name__} instead of a list")
    return tuple([read(reader, each) for each in data])


def _optional(read: _Read, reader: RowReader, data: object) -> Any:
    return None if data is None else read(reader, data)


def _member(kind: type[StrEnum], _reader: RowReader, data: object) -> StrEnum:
    if not isinstance(data, str):
        raise FormatError(f"{type(data).__name__} instead of a word")
    try:
        return kind(data)
    except ValueError as error:
        raise _UnknownMemberError(repr(data[:40])) from error
