"""Takes replies apart into text, reasoning and tool calls, as they grow."""

from __future__ import annotations

from enum import Enum, auto

from engine.models.call_syntax import NotACallError, UnfinishedCallError
from engine.models.offered_calls import Calls
from engine.models.reasoning_format import ReasoningFormat
from engine.pieces import Piece, ReasoningPiece, TextPiece

MAX_FAILED_CALLS = 100
"""Texts of one reply that were tried as calls and are none; then all the rest is text."""


class _Part(Enum):
    """What the reply is in the middle of."""

    TEXT = auto()
    REASONING = auto()
    CALL = auto()


class MarkedReader:
    """A ``ReplyReader`` (engine/pieces.py) for replies with marks in them.

    White space next to a mark belongs to no text. Reasoning begins only where a text could begin.
    An opening mark that begins no call is text, and so is everything behind it.
    """

    def __init__(
        self,
        reasoning: ReasoningFormat | None,
        calls: Calls | None,
        *,
        opens_reasoning: bool = False,
    ) -> None:
        """Nothing has been read yet.

        Args:
            reasoning: What stands around reasoning; None where there is none.
            calls: Which calls may be made; None for none.
            opens_reasoning: Whether the reply begins inside reasoning.
        """
        self._reasoning = reasoning
        self._calls = calls
        self._part = _Part.REASONING if reasoning and opens_reasoning else _Part.TEXT
        self._held = ""
        self._gap = ""  # white space before the mark of a call that is being read
        self._num_searched = 0  # of what is held, without a closing mark
        self._has_begun = False  # whether something of the present text or reasoning is out
        self._has_marks = False  # whether a mark came before the present text
        self._is_over = False
        self._num_failed = 0

    def feed(self, text: str) -> list[Piece]:
        """Pieces that new text completes; holds back what may become a mark or a call."""
        self._held += text
        pieces: list[Piece] = []
        while self._advance(pieces):
            pass
        return _merged(pieces)

    def finish(self) -> list[Piece]:
        """What was held back at the end; a call is one if only its closing mark is missing."""
        self._is_over = True
        return self.feed("")

    def _advance(self, pieces: list[Piece]) -> bool:
        """Reads on to the next mark; False where there is none in what is held."""
        if self._part is _Part.TEXT:
            return self._read_text(pieces)
        if self._part is _Part.REASONING:
            return self._read_reasoning(pieces)
        return self._read_call(pieces)

    def _read_text(self, pieces: list[Piece]) -> bool:
        start = self._reasoning_start()
        if start is not None and self._reasoning is not None:
            self._held = self._held[start + len(self._reasoning.open_mark) :]
            self._begin(_Part.REASONING)
            return True
        mark = self._calls.syntax.open_mark if self._calls else ""
        start = self._held.find(mark) if mark else -1
        if start >= 0:
            before = self._held[:start].rstrip()
            self._gap = self._held[len(before) : start]
            self._say(pieces, before)
            self._held = self._held[start + len(mark) :]
            self._part, self._num_searched = _Part.CALL, 0
            return True
        num_held = 0 if self._is_over else self._num_undecided(mark)
        num_out = len(self._held) - num_held
        self._say(pieces, self._held[:num_out])
        self._held = self._held[num_out:]
        return False

    def _reasoning_start(self) -> int | None:
        """Where in what is held reasoning opens, if nothing but white space is before it."""
        if self._reasoning is None or self._has_begun:
            return None
        said = self._held.lstrip()
        is_open = said.startswith(self._reasoning.open_mark)
        return len(self._held) - len(said) if is_open else None

    def _num_undecided(self, mark: str) -> int:
        """How much of a text's end may be the beginning of a mark, with the space before it."""
        if not self._has_begun:
            said = self._held.lstrip()
            if not said or (self._reasoning and self._reasoning.open_mark.startswith(said)):
                return len(self._held)
        if not mark:
            return 0
        num_decided = len(self._held) - _num_begun(self._held, mark)
        return len(self._held) - len(self._held[:num_decided].rstrip())

    def _say(self, pieces: list[Piece], text: str) -> None:
        if not self._has_begun and self._has_marks:
            text = text.lstrip()
        if text:
            self._has_begun = True
            pieces.append(TextPiece(text))

    def _begin(self, part: _Part) -> None:
        """Begins a text or reasoning behind a mark."""
        self._part = part
        self._has_begun = False
        self._has_marks = True

    def _read_reasoning(self, pieces: list[Piece]) -> bool:
        mark = self._reasoning.close_mark if self._reasoning else ""
        end = self._held.find(mark)
        if end >= 0:
            self._think(pieces, self._held[:end].rstrip())
            self._held = self._held[end + len(mark) :]
            self._begin(_Part.TEXT)
            return True
        num_decided = len(self._held)
        if not self._is_over:
            num_decided -= _num_begun(self._held, mark)
        thought = self._held[:num_decided].rstrip()
        self._held = self._held[len(thought) :]
        self._think(pieces, thought)
        return False

    def _think(self, pieces: list[Piece], text: str) -> None:
        if not self._has_begun:
            text = text.lstrip()
        if text:
            self._has_begun = True
            pieces.append(ReasoningPiece(text))

    def _read_call(self, pieces: list[Piece]) -> bool:
        assert self._calls is not None
        mark = self._calls.syntax.close_mark
        end = self._held.find(mark, self._num_searched) if mark else -1
        if end < 0 and not self._is_over:
            self._num_searched = max(self._num_searched, len(self._held) - len(mark) + 1)
            return False
        body, rest = (self._held[:end], end + len(mark)) if end >= 0 else (self._held, None)
        try:
            pieces += self._calls.take(body)
        except NotACallError as error:
            self._num_failed += 1
            is_unfinished = isinstance(error, UnfinishedCallError) and rest is not None
            if is_unfinished and self._num_failed < MAX_FAILED_CALLS:
                self._num_searched = rest or 0
            else:
                self._call_is_text(pieces)
        else:
            self._held = "" if rest is None else self._held[rest:]
            self._begin(_Part.TEXT)
        return True

    def _call_is_text(self, pieces: list[Piece]) -> None:
        """The opening mark is text; what stands behind it is read again."""
        assert self._calls is not None
        self._part = _Part.TEXT
        self._say(pieces, self._gap + self._calls.syntax.open_mark)
        if self._num_failed >= MAX_FAILED_CALLS:
            self._calls = None


def _num_begun(text: str, mark: str) -> int:
    """How many letters at the end of a text are the beginning of a mark."""
    most = min(len(text), len(mark) - 1)
    return next((num for num in range(most, 0, -1) if text.endswith(mark[:num])), 0)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """The pieces with neighbouring texts as one."""
    merged: list[Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, TextPiece) and isinstance(last, TextPiece):
            merged[-1] = TextPiece(last.text + piece.text)
        else:
            merged.append(piece)
    return merged
