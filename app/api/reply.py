"""A finished reply: its blocks in order, put together from the pieces in which it came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.pieces import CallArguments, CallEnd, CallStart, Piece, ReasoningPiece, TextPiece
from engine.request import Delta, TokenLogprob


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text for the reader.

    Attributes:
        text: All of it, up to the next block of another kind.
    """

    text: str


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
    texts: list[str] = []
    start: Piece | None = None
    for piece in pieces:
        if isinstance(piece, CallEnd):
            continue
        if isinstance(piece, CallStart) or not _goes_on(start, piece):
            _close(blocks, start, texts)
            start, texts = piece, []
        if isinstance(piece, TextPiece | ReasoningPiece):
            texts.append(piece.text)
        elif isinstance(piece, CallArguments):
            texts.append(piece.json_text)
    _close(blocks, start, texts)
    return tuple(blocks)


def _goes_on(start: Piece | None, piece: Piece) -> bool:
    """Whether a piece belongs to the block that another one has begun."""
    if isinstance(piece, CallArguments):
        return isinstance(start, CallStart)
    return type(start) is type(piece)


def _close(blocks: list[Block], start: Piece | None, texts: list[str]) -> None:
    text = "".join(texts)
    if isinstance(start, TextPiece):
        blocks.append(TextBlock(text))
    elif isinstance(start, ReasoningPiece):
        blocks.append(ReasoningBlock(text))
    elif isinstance(start, CallStart):
        blocks.append(CallBlock(start.call_id, start.name, text or "{}"))
