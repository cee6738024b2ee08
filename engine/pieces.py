"""What a reply is made of, neutral of any protocol: text, reasoning and tool calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.request import TokenLogprob


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text for the reader.

    Attributes:
        text: A part of it, never empty.
        logprobs: How likely the tokens were that it is made of, where that was asked for.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    """What the model thought aloud before it answered.

    Attributes:
        text: A part of it, never empty.
    """

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A tool call begins. It is announced only once the whole call has been read.

    Attributes:
        index: Which call of the reply, from 0.
        call_id: An id that no other call has.
        name: The function's name.
    """

    index: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """Arguments of a tool call.

    Attributes:
        index: Which call of the reply.
        json_text: A part of them; all parts of a call together are one JSON object.
    """

    index: int
    json_text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A tool call is complete.

    Attributes:
        index: Which call of the reply.
    """

    index: int


Piece = TextPiece | ReasoningPiece | CallStart | CallArguments | CallEnd


class ReplyReader(Protocol):
    """Takes a reply apart as it grows. It belongs to one turn."""

    def feed(self, text: str) -> list[Piece]:
        """Pieces that new text completes; holds back what may become a mark or a call."""

    def finish(self) -> list[Piece]:
        """What was held back at the end; half a call is text."""


class TextReader:
    """A ``ReplyReader`` for replies that are nothing but text."""

    def feed(self, text: str) -> list[Piece]:
        """All of it."""
        return [TextPiece(text)] if text else []

    def finish(self) -> list[Piece]:
        """Nothing: nothing is held back."""
        return []
