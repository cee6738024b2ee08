"""A response as OpenAI's stream of named and numbered events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.api.errors import error_message, kind_of
from app.api.openai.response_body import ResponseBody, is_cut
from app.api.openai.response_items import Event, OutputItems
from app.api.sse import compact
from engine.pieces import Piece
from engine.request import Delta

_FINAL_CODE = "invalid_prompt"
"""The one code at which known clients do not send the same request again."""


class ResponseEvents:
    """Writes a response; an ``EventEncoder`` (app/api/sse.py)."""

    def __init__(self, body: ResponseBody, output: OutputItems, request_id: str) -> None:
        """Makes a writer for one response.

        Args:
            body: The response.
            output: Makes its items.
            request_id: The request's id, for the log.
        """
        self._body = body
        self._output = output
        self._request_id = request_id
        self._num_events = 0

    def start(self, first: Delta) -> bytes:
        """That the response was begun, unless that was said before."""
        return self._opening()

    def _opening(self) -> bytes:
        if self._num_events:
            return b""
        response = self._body.in_progress()
        kinds = ("response.created", "response.in_progress")
        return self._write({"type": kind, "response": response} for kind in kinds)

    def piece(self, piece: Piece) -> bytes:
        """The events that tell of a piece."""
        return self._write(self._output.add(piece))

    def finish(self, last: Delta) -> bytes:
        """The end of the last item, and the whole response."""
        chunk = self._write(self._output.close(is_cut=is_cut(last)))
        response = self._body.finished(self._output.items, last)
        return chunk + self._write(
            [{"type": f"response.{response['status']}", "response": response}]
        )

    def error(self, error: Exception) -> bytes:
        """What went wrong, by itself and as the end of the response."""
        message = error_message(error, self._request_id)
        kind = kind_of(error)
        code = _FINAL_CODE if kind.status < 500 else kind.openai_type
        response = self._body.failed({"code": code, "message": message}, self._output.items)
        told: dict[str, Any] = {"type": "error", "code": code, "message": message, "param": None}
        failed = {"type": "response.failed", "response": response}
        return self._opening() + self._write([told, failed])

    def ping(self) -> bytes:
        """That the response is in progress: clients give up where only comments come."""
        opening = self._opening()
        if opening:
            return opening
        response = self._body.in_progress()
        return self._write([{"type": "response.in_progress", "response": response}])

    def _write(self, events: Iterable[Event]) -> bytes:
        chunk = b""
        for event in events:
            numbered = event | {"sequence_number": self._num_events}
            self._num_events += 1
            chunk += b"event: " + event["type"].encode() + b"\ndata: " + compact(numbered) + b"\n\n"
        return chunk
