"""Which of a reply's tokens its texts are made of; marks, calls and reasoning have others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.pieces import Piece, TextPiece
from engine.request import TokenLogprob


class TextLogprobs:
    """Gives the texts of one reply their tokens, as they come out."""

    def __init__(self) -> None:
        """Nothing has been generated yet."""
        self._pending: list[TokenLogprob] = []

    def told(self, pieces: Sequence[Piece], rows: Sequence[TokenLogprob]) -> list[Piece]:
        """Pieces, the texts with the tokens that spell them.

        Args:
            pieces: What was completed.
            rows: The tokens that were generated meanwhile. A reader may hold some of them back, so
                they belong to these pieces or to later ones.
        """
        self._pending += rows
        told = [
            replace(piece, logprobs=self._take(piece.text))
            if isinstance(piece, TextPiece)
            else piece
            for piece in pieces
        ]
        if pieces and not isinstance(pieces[-1], TextPiece):
            # What is complete and no text has used them up.
            self._pending.clear()
        return told

    def _take(self, text: str) -> tuple[TokenLogprob, ...]:
        """The tokens that overlap the last place where a text stands; all before it go as well."""
        spelled = b"".join([row.token for row in self._pending])
        wanted = text.encode("utf-8", "replace")
        start = spelled.rfind(wanted)
        if start < 0:  # a broken character is not spelled as it is shown
            start, wanted = 0, spelled
        end = start + len(wanted)
        taken, rest = [], []
        place = 0
        for row in self._pending:
            if place >= end:
                rest.append(row)
            elif place + len(row.token) > start:
                taken.append(row)
            place += len(row.token)
        self._pending = rest
        return tuple(taken)
