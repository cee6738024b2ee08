"""The text of one generation as it grows: token by token, stop strings held back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from engine.request import FinishReason, SamplingParams


class TextPieces(Protocol):
    """Turns tokens into text, holding back incomplete characters."""

    def add(self, token_id: int) -> str:
        """Text that a token completes; may be empty."""

    def flush(self) -> str:
        """What was held back at the end."""


class StopStrings(Protocol):
    """Finds stop strings in a stream of text."""

    def feed(self, text: str) -> tuple[str, str | None]:
        """Text that can be shown, and the stop string that was found, if any."""

    def flush(self) -> str:
        """What was held back in case it became a stop string."""


@dataclass(slots=True, eq=False)
class Output:
    """One generation's text and how it ended.

    Attributes:
        sampling: The request's parameters.
        max_tokens: Tokens at most, after clamping.
        end_token_ids: Tokens that end a turn.
        pieces: Turns tokens into text.
        stops: Finds stop strings.
        text: Text not yet handed over.
        token_ids: Tokens not yet handed over.
        num_tokens: Tokens so far.
        finish_reason: Set when it has ended.
        stop_string: The stop string that ended it.
    """

    sampling: SamplingParams
    max_tokens: int
    end_token_ids: frozenset[int]
    pieces: TextPieces
    stops: StopStrings
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    num_tokens: int = 0
    finish_reason: FinishReason | None = None
    stop_string: str | None = None

    def add(self, token_id: int) -> None:
        """Takes the next token and decides whether the generation has ended."""
        self.num_tokens += 1
        if token_id in self.end_token_ids:
            self._finish(FinishReason.END_TURN)
            return
        self.token_ids.append(token_id)
        self._take(self.pieces.add(token_id))
        if self.finish_reason is None and self.num_tokens >= self.max_tokens:
            self._finish(FinishReason.MAX_TOKENS)

    def _take(self, piece: str) -> None:
        shown, stop_string = self.stops.feed(piece)
        self.text += shown
        if stop_string is not None:
            self.stop_string = stop_string
            self.finish_reason = FinishReason.STOP_STRING

    def _finish(self, reason: FinishReason) -> None:
        self._take(self.pieces.flush())
        if self.finish_reason is None:
            self.text += self.stops.flush()
            self.finish_reason = reason

    def take(self) -> tuple[str, tuple[int, ...]]:
        """Hands over what is new, text and tokens."""
        text, token_ids = self.text, tuple(self.token_ids)
        self.text = ""
        self.token_ids.clear()
        return text, token_ids
