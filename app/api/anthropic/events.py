"""A reply as Anthropic's stream of named events."""

from __future__ import annotations

from typing import Any

from app.api.anthropic.message import (
    ending,
    message_body,
    signature_of,
    tool_use_body,
    usage_body,
)
from app.api.draft import Thinking
from app.api.errors import Dialect, error_body
from app.api.sse import compact, quoted
from app.api.turns import Turn
from engine.pieces import CallArguments, CallEnd, CallStart, Piece, ReasoningPiece, TextPiece
from engine.request import Delta

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_TEXT: dict[str, Any] = {"type": "text", "text": ""}
_THINKING: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}


class AnthropicEvents:
    """Writes a turn as Anthropic's stream of named events."""

    def __init__(self, turn: Turn) -> None:
        """Makes a writer for one turn."""
        self._turn = turn
        self._thinking = turn.draft.thinking
        self._index = 0
        self._open: type[Piece] | None = None
        self._thought = ""
        self._has_calls = False

    def start(self, first: Delta) -> bytes:
        """``message_start``, and a first ping."""
        body = {"type": "message_start", "message": message_body(self._turn, first.usage)}
        return _event("message_start", compact(body)) + _PING

    def piece(self, piece: Piece) -> bytes:
        """Opens a block where the piece begins one, writes the piece, closes a block it ends."""
        match piece:
            case TextPiece(text):
                return self._in_block(TextPiece, _TEXT) + self._delta("text_delta", "text", text)
            case ReasoningPiece(text):
                return self._reasoning(text)
            case CallStart(call_id=call_id, name=name):
                self._has_calls = True
                return self._close() + self._begin(CallStart, tool_use_body(call_id, name))
            case CallArguments(json_text=json_text):
                return self._delta("input_json_delta", "partial_json", json_text)
            case CallEnd():
                return self._close()

    def _reasoning(self, text: str) -> bytes:
        """A part of a thought; clients may want none of it, or only that there was one."""
        if self._thinking is Thinking.OFF:
            return b""
        opening = self._in_block(ReasoningPiece, _THINKING)
        self._thought += text
        if self._thinking is Thinking.OMITTED:
            return opening
        return opening + self._delta("thinking_delta", "thinking", text)

    def _in_block(self, kind: type[Piece], block: dict[str, Any]) -> bytes:
        return b"" if self._open is kind else self._close() + self._begin(kind, block)

    def _begin(self, kind: type[Piece], block: dict[str, Any]) -> bytes:
        self._open = kind
        body = {"type": "content_block_start", "index": self._index, "content_block": block}
        return _event("content_block_start", compact(body))

    def _delta(self, kind: str, field: str, text: str) -> bytes:
        # Written by hand: there is one for every token.
        head = b'{"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
        names = (self._index, kind.encode(), field.encode())
        return _event("content_block_delta", head % names + quoted(text) + b"}}")

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        signature = b""
        if self._open is ReasoningPiece:
            signature = self._delta("signature_delta", "signature", signature_of(self._thought))
            self._thought = ""
        self._open = None
        body = {"type": "content_block_stop", "index": self._index}
        self._index += 1
        return signature + _event("content_block_stop", compact(body))

    def finish(self, last: Delta) -> bytes:
        """The end of the last block, why the reply ended, and the end of the message."""
        delta = ending(last, has_calls=self._has_calls)
        body = {"type": "message_delta", "delta": delta, "usage": usage_body(last.usage)}
        return self._close() + _event("message_delta", compact(body)) + _MESSAGE_STOP

    def error(self, error: Exception) -> bytes:
        """An ``error`` event; the stream ends with it."""
        body = error_body(error, Dialect.ANTHROPIC, self._turn.request_id)
        return _event("error", compact(body))

    def ping(self) -> bytes:
        """A ``ping`` event, which clients skip wherever it stands."""
        return _PING


def _event(name: str, body: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + body + b"\n\n"
