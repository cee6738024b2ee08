"""A finished reply: its blocks in order, put together from the pieces in which it came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.pieces import CallArguments, CallEnd, CallStart, Piece, ReasoningPiece, TextPiece
from engine.request import Delta, TokenLogprob


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text for the reader.

    Attributes:
        text: All of it, up to the next block of another kind.
        logprobs: How likely its tokens were, where the request asked for that.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningBlock:
    """What the model thought aloud.

    Attributes:
        text: All of it, up to the next block of another kind.
    """

    text: str


@dataclass(frozen=True, slots=True)
class CallBlock:
    """A tool call.

    Attributes:
        call_id: An id that no other call has.
        name: The function's name.
        arguments_json: Its arguments: one JSON object.
    """

    call_id: str
    name: str
    arguments_json: str


Block = TextBlock | ReasoningBlock | CallBlock


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished turn.

    Attributes:
        blocks: What it is made of, in order; neighbours are of different kinds, or calls.
        last: The delta that ended it.
        logprobs: How likely its tokens were, where the request asked for that.
    """

    blocks: tuple[Block, ...]
    last: Delta
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join([block.text for block in self.blocks if isinstance(block, TextBlock)])

    @property
    def reasoning(self) -> str:
        """All that was thought aloud."""
        return "".join([block.text for block in self.blocks if isinstance(block, ReasoningBlock)])

    @property
    def calls(self) -> tuple[CallBlock, ...]:
        """Its tool calls, in order."""
        return tuple(block for block in self.blocks if isinstance(block, CallBlock))


def blocks_of(pieces: Iterable[Piece]) -> tuple[Block, ...]:
    """Pieces put together.

    Args:
        pieces: A whole reply; the pieces of a call follow each other.
    """
    blocks: list[Block] = []
    parts: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, CallEnd):
            continue
        if isinstance(piece, CallStart) or not _goes_on(parts[0] if parts else None, piece):
            blocks += _closed(parts)
            parts = []
        parts.append(piece)
    return (*blocks, *_closed(parts))


def _goes_on(start: Piece | None, piece: Piece) -> bool:
    """Whether a piece belongs to the block that another one has begun."""
    if isinstance(piece, CallArguments):
        return isinstance(start, CallStart)
    return type(start) is type(piece)


def _closed(parts: Sequence[Piece]) -> Iterator[Block]:
    """The block that pieces add up to, if there are any."""
    start = parts[0] if parts else None
    if isinstance(start, TextPiece):
        texts = [part for part in parts if isinstance(part, TextPiece)]
        logprobs = tuple(row for part in texts for row in part.logprobs)
        yield TextBlock("".join([part.text for part in texts]), logprobs)
    elif isinstance(start, ReasoningPiece):
        thoughts = [part.text for part in parts if isinstance(part, ReasoningPiece)]
        yield ReasoningBlock("".join(thoughts))
    elif isinstance(start, CallStart):
        arguments = [part.json_text for part in parts if isinstance(part, CallArguments)]
        yield CallBlock(start.call_id, start.name, "".join(arguments) or "{}")
