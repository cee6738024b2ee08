"""The events of a request with one or several choices, in the order in which they come about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response

from app.api.choices import Choices
from app.api.reply import Reply
from app.api.sse import EventStream
from engine.errors import StokerError
from engine.pieces import Piece
from engine.request import Delta, Usage


class ChoiceEncoder(Protocol):
    """How one protocol writes choices as events. Every method returns bytes fit to send."""

    def start(self, number: int) -> bytes:
        """What opens a choice."""

    def pieces(self, number: int, pieces: Sequence[Piece], deltas: Sequence[Delta]) -> bytes:
        """The next pieces of a choice.

        Args:
            number: The choice.
            pieces: What was completed.
            deltas: What of the choice was generated meanwhile.
        """

    def finish(self, number: int, last: Delta) -> bytes:
        """What closes a choice that ended by itself."""

    def close(self, usage: Usage) -> bytes:
        """What closes the reply, once every choice has ended."""

    def error(self, error: Exception) -> bytes:
        """What closes a reply that failed."""

    def ping(self) -> bytes:
        """A sign of life, at any point of the stream."""


class ChoiceEvents:
    """An ``EventSource`` (app/api/sse.py) of choices."""

    def __init__(self, choices: Choices[Any], encoder: ChoiceEncoder) -> None:
        """Takes over choices that are queued."""
        self._choices = choices
        self._encoder = encoder
        self._started: set[int] = set()
        self.is_over = False

    async def next(self, timeout_s: float) -> bytes:
        """Events since the last call; waits for one, at most ``timeout_s`` seconds.

        Raises:
            StokerError: One of the choices did not end by itself, or the client went away.
        """
        chunk = b""
        for number, deltas in await self._choices.next(timeout_s):
            chunk += self._encode(number, deltas)
        if not self.is_over and self._choices.is_over:
            self.is_over = True
            chunk += self._encoder.close(self._choices.usage)
        return chunk

    def _encode(self, number: int, deltas: Sequence[Delta]) -> bytes:
        chunk = b""
        if number not in self._started:
            self._started.add(number)
            chunk = self._encoder.start(number)
        turn, last = self._choices.turns[number], deltas[-1]
        chunk += self._encoder.pieces(number, turn.read(deltas), deltas)
        if last.finish_reason is not None:
            error = turn.ending_error(last)
            if error is not None:
                return chunk + self.error(error)
            self._choices.end(number, last)
            chunk += self._encoder.finish(number, last)
        return chunk

    def error(self, error: StokerError) -> bytes:
        """What closes a reply that failed."""
        self.is_over = True
        self._choices.record.error = str(error)
        return self._encoder.error(error)

    def ping(self) -> bytes:
        """A sign of life, at any point of the stream."""
        return self._encoder.ping()

    async def close(self) -> None:
        """Ends the turns that still run."""
        await self._choices.close()


async def respond(
    choices: Choices[Any], encoder: ChoiceEncoder | None, body: Callable[[Sequence[Reply]], Any]
) -> Response:
    """Answers a request whose choices are queued.

    Args:
        choices: Its choices; they are closed when it is answered.
        encoder: Writes them as they come; None answers once all have ended.
        body: Makes the reply then.

    Raises:
        StokerError: One of them did not end by itself, or the client went away.
    """
    if encoder is not None:
        return EventStream(ChoiceEvents(choices, encoder), choices.ping_s)
    try:
        replies = await choices.whole_replies()
    finally:
        await choices.close()
    return JSONResponse(body(replies))
