"""Which tool calls a reply may make."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.messages import ToolChoice, ToolSpec, ToolUse
from engine.models.call_syntax import CallSyntax, NotACallError, WrittenCall
from engine.pieces import CallArguments, CallEnd, CallStart, Piece


def new_call_id() -> str:
    """An id that no other call has."""
    return uuid.uuid4().hex[:24]


class Calls(Protocol):
    """Calls of one reply, in the order in which it makes them."""

    @property
    def syntax(self) -> CallSyntax:
        """How the model writes them."""

    def take(self, body: str) -> list[Piece]:
        """The pieces of the calls between two marks.

        Raises:
            NotACallError: There is none, or one that may not be made.
        """


class OfferedCalls:
    """Calls of the tools that a client offers, as many as it wants."""

    def __init__(
        self,
        syntax: CallSyntax,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        """No call has been made yet.

        Args:
            syntax: How the model writes calls.
            tools: What the client offers.
            choice: What it asked of them.
            new_id: Makes the ids of calls.
        """
        self.syntax = syntax
        self._tools = tools
        self._names = set(choice.names) or {tool.name for tool in tools}
        self._is_parallel = choice.is_parallel
        self._new_id = new_id
        self._num_calls = 0

    def take(self, body: str) -> list[Piece]:
        """The pieces of the calls between two marks.

        Where the client wants one call at most, those after the first are left out.

        Raises:
            NotACallError: There is none, or one of a tool that was not offered.
        """
        calls = self.syntax.parse(body, self._tools)
        if not all(call.name in self._names for call in calls):
            raise NotACallError("a tool of that name was not offered")
        if not self._is_parallel:
            calls = calls[: 1 - min(1, self._num_calls)]
        pieces: list[Piece] = []
        for call in calls:
            pieces += _announced(self._num_calls, self._new_id(), call)
            self._num_calls += 1
        return pieces


class AnyCalls:
    """Calls of whatever name, to tell what a reply of an earlier turn was made of."""

    def __init__(self, syntax: CallSyntax) -> None:
        """Reads calls in one syntax."""
        self.syntax = syntax

    def take(self, body: str) -> list[Piece]:
        """The pieces of the calls between two marks.

        Raises:
            NotACallError: There is none.
        """
        calls = self.syntax.parse(body, ())
        return [piece for call in calls for piece in _announced(0, "", call)]


def offered_calls(
    syntax: CallSyntax | None, tools: Sequence[ToolSpec], choice: ToolChoice
) -> OfferedCalls | None:
    """The calls that a reply may make; None where all of it is text."""
    if syntax is None or not tools or choice.use is ToolUse.NONE:
        return None
    return OfferedCalls(syntax, tools, choice)


def _announced(index: int, call_id: str, call: WrittenCall) -> tuple[Piece, ...]:
    start = CallStart(index, call_id, call.name)
    return start, CallArguments(index, call.arguments_json), CallEnd(index)
