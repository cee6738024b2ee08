"""Answering with server-sent events, a piece per engine step, never silent for long."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Protocol

from starlette.responses import Response

from app.api.errors import ClientGoneError
from app.api.service import TurnService
from app.api.telemetry import Receive, Scope, Send
from app.api.turns import Turn
from engine.errors import StokerError
from engine.pieces import Piece
from engine.request import Delta


class EventEncoder(Protocol):
    """How one protocol writes a turn as events. Every method returns bytes fit to send."""

    def start(self, first: Delta) -> bytes:
        """What opens the reply, once its usage is known."""

    def piece(self, piece: Piece) -> bytes:
        """The next piece of the reply; nothing where the protocol has no place for it."""

    def finish(self, last: Delta) -> bytes:
        """What closes a reply that ended by itself."""

    def error(self, error: Exception) -> bytes:
        """What closes a reply that failed."""

    def ping(self) -> bytes:
        """A sign of life, at any point of the stream."""


def quoted(text: str) -> bytes:
    """A JSON string, quotes included.

    ASCII only: some clients split lines at any Unicode line end, which JSON may carry raw.
    """
    return json.dumps(text).encode("ascii")


def compact(value: Any) -> bytes:
    """A JSON value on one line, ASCII only."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


class EventSource(Protocol):
    """What a stream is made of."""

    async def next(self, timeout_s: float) -> bytes:
        """Events since the last call; waits for one, at most ``timeout_s`` seconds.

        Raises:
            StokerError: There will be no more, and the reply did not end by itself.
        """

    @property
    def is_over(self) -> bool:
        """Whether the last event was handed over."""

    def error(self, error: StokerError) -> bytes:
        """What closes a reply that failed."""

    def ping(self) -> bytes:
        """A sign of life, at any point of the stream."""

    async def close(self) -> None:
        """Lets go of what the events tell of."""


class TurnEvents:
    """The events of one turn."""

    def __init__(self, service: TurnService, turn: Turn, encoder: EventEncoder) -> None:
        """Takes over a turn that is queued."""
        self._service = service
        self._turn = turn
        self._encoder = encoder
        self._is_open = False
        self.is_over = False

    async def next(self, timeout_s: float) -> bytes:
        """Events since the last call; waits for one, at most ``timeout_s`` seconds.

        Raises:
            StokerError: The client went away, or the server or the engine stopped.
        """
        deltas = await self._turn.next(timeout_s)
        return self._encode(deltas) if deltas else b""

    def _encode(self, deltas: Sequence[Delta]) -> bytes:
        chunk = b""
        if not self._is_open:
            self._is_open = True
            chunk = self._encoder.start(deltas[0])
        chunk += b"".join([self._encoder.piece(piece) for piece in self._turn.read(deltas)])
        last = deltas[-1]
        if last.finish_reason is not None:
            self.is_over = True
            error = self._turn.ending_error(last)
            chunk += self._encoder.finish(last) if error is None else self.error(error)
        return chunk

    def error(self, error: StokerError) -> bytes:
        """What closes a reply that failed."""
        self._turn.record.error = str(error)
        return self._encoder.error(error)

    def ping(self) -> bytes:
        """A sign of life, at any point of the stream."""
        return self._encoder.ping()

    async def close(self) -> None:
        """Ends the turn, if it still runs."""
        self._service.forget(self._turn)


class EventStream(Response):
    """The reply to a streaming request. Ends its turns when the client goes away."""

    media_type = "text/event-stream"

    def __init__(self, events: EventSource, ping_s: float) -> None:
        """Prepares the reply to a request whose turns are queued.

        Args:
            events: What to send.
            ping_s: Seconds of silence after which a sign of life is sent.
        """
        self._events = events
        self._ping_s = ping_s
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})

    def init_headers(self, headers: Any = None) -> None:
        """Sets the headers; a stream has no length."""
        super().init_headers(headers)
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events as they come."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await self._send_events(send)
            except ClientGoneError:
                return
            except StokerError as error:
                await _send_chunk(send, self._events.error(error))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._events.close()

    async def _send_events(self, send: Send) -> None:
        last_sent = time.monotonic()
        while not self._events.is_over:
            chunk = await self._events.next(last_sent + self._ping_s - time.monotonic())
            if not chunk and time.monotonic() - last_sent >= self._ping_s:
                chunk = self._events.ping()
            if chunk:
                await _send_chunk(send, chunk)
                last_sent = time.monotonic()


async def _send_chunk(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})
