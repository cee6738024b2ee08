"""Reading the tool calls that a model writes, by the syntax of its family."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from engine.messages import ToolSpec
from engine.models.call_format import CallFormat
from engine.models.turns import parse_tools

_UNFINISHED_STRING = "Unterminated string"


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as the model wrote it.

    Attributes:
        name: The function it names, offered or not.
        arguments_json: Its arguments: one JSON object.
    """

    name: str
    arguments_json: str


class NotACallError(ValueError):
    """A text between the marks of a call is none."""


class UnfinishedCallError(NotACallError):
    """A text breaks off inside a string: what looked like the closing mark was a part of it."""


class CallSyntax(Protocol):
    """How the models of a family write calls."""

    @property
    def open_mark(self) -> str:
        """Stands before a call."""

    @property
    def close_mark(self) -> str:
        """Stands behind it; empty where calls go on to the end of the reply."""

    def parse(self, body: str, tools: Sequence[ToolSpec]) -> tuple[WrittenCall, ...]:
        """The calls between two marks.

        Args:
            body: The text between them.
            tools: What was offered; some families need it to tell a number from a string.

        Returns:
            At least one call.

        Raises:
            NotACallError: It is none.
        """


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """Calls that are a JSON object between marks.

    Attributes:
        format: The marks, and the keys of the object.
    """

    format: CallFormat

    @property
    def open_mark(self) -> str:
        """Stands before a call."""
        return self.format.open_mark

    @property
    def close_mark(self) -> str:
        """Stands behind it."""
        return self.format.close_mark

    def parse(self, body: str, tools: Sequence[ToolSpec]) -> tuple[WrittenCall, ...]:
        """The call between two marks; see ``CallSyntax``."""
        call = _loads(body)
        if not isinstance(call, dict):
            raise NotACallError("a call must be an object")
        arguments = call.get(self.format.arguments_key, {})
        return (_written(call.get(self.format.name_key), arguments),)


@dataclass(frozen=True, slots=True)
class FamilyCalls:
    """Calls in the syntax of one family, read by a parser that knows it.

    Attributes:
        open_mark: Stands before a call.
        close_mark: Stands behind it; empty where calls go on to the end of the reply.
        parser: Takes the text between the marks and OpenAI-style tools; returns an object with
            ``name`` and ``arguments``, or a list of them, and raises anything where it finds none.
    """

    open_mark: str
    close_mark: str
    parser: Callable[[str, Sequence[dict[str, Any]]], Any]

    def parse(self, body: str, tools: Sequence[ToolSpec]) -> tuple[WrittenCall, ...]:
        """The calls between two marks; see ``CallSyntax``."""
        try:
            found = self.parser(body, parse_tools(tools))
        except Exception as error:
            # The text is a model's, and these parsers raise whatever they stumble over.
            raise NotACallError(f"not a call: {error}") from error
        calls = found if isinstance(found, list) else [found]
        if not calls or not all(isinstance(call, dict) for call in calls):
            raise NotACallError("no call was found")
        return tuple(_written(call.get("name"), call.get("arguments", {})) for call in calls)


def _written(name: object, arguments: object) -> WrittenCall:
    if isinstance(arguments, str):  # some models write them as JSON inside JSON
        arguments = _loads(arguments)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise NotACallError("a call must have a name, and arguments that are an object")
    try:
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        written.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise NotACallError(f"the arguments are no JSON: {error}") from error
    return WrittenCall(name, written)


def _loads(text: str) -> Any:
    try:
        return json.loads(text, strict=False, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if error.msg.startswith(_UNFINISHED_STRING):
            raise UnfinishedCallError(str(error)) from error
        raise NotACallError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise NotACallError(str(error)) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
