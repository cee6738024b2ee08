"""The text of one generation as it grows: token by token, stop strings held back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from engine.request import FinishReason, SamplingParams, TokenLogprob


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
        logprobs: How likely they were, where that is wanted.
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
    logprobs: list[TokenLogprob] = field(default_factory=list)
    num_tokens: int = 0
    finish_reason: FinishReason | None = None
    stop_string: str | None = None

    def add(self, token_id: int, logprob: TokenLogprob | None = None) -> None:
        """Takes the next token and decides whether the generation has ended.

        Args:
            token_id: The token.
            logprob: How likely it was; None where nobody wants to know.
        """
        self.num_tokens += 1
        if token_id in self.end_token_ids:
            self._finish(FinishReason.END_TURN)
            return
        self.token_ids.append(token_id)
        if logprob is not None:
            self.logprobs.append(logprob)
        self._take(self.pieces.add(token_id))
        if self.finish_reason is None and self.num_tokens >= self.max_tokens:
            self._finish(FinishReason.MAX_TOKENS)

    def end(self) -> None:
        """Ends the turn, if it has not ended, because nothing may follow."""
        if self.finish_reason is None:
            self._finish(FinishReason.END_TURN)

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

    def take(self) -> tuple[str, tuple[int, ...], tuple[TokenLogprob, ...]]:
        """Hands over what is new: text, tokens, and how likely they were."""
        new = (self.text, tuple(self.token_ids), tuple(self.logprobs))
        self.text = ""
        self.token_ids.clear()
        self.logprobs.clear()
        return new
