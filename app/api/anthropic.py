"""The Anthropic Messages API: ``/v1/messages`` and ``/v1/messages/count_tokens``."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.anthropic_schema import parse_messages
from app.api.errors import Dialect, error_body
from app.api.reply import Reply
from app.api.service import TurnService
from app.api.sse import EventStream, compact, quoted
from app.api.telemetry import record_of
from app.api.turns import Turn
from engine.pieces import Piece, TextPiece
from engine.request import Delta, FinishReason, Usage

_STOP_REASONS = {
    FinishReason.END_TURN: "end_turn",
    FinishReason.STOP_STRING: "stop_sequence",
    FinishReason.MAX_TOKENS: "max_tokens",
}
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_BLOCK_START = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
_TEXT_HEAD = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":'
)
_TEXT_TAIL = b"}}\n\n"
_BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def usage_body(usage: Usage) -> dict[str, int]:
    """Token counts by Anthropic's convention: the prompt is the sum of the three input counts.

    Cache creation is what was computed and fills whole blocks, so that any agent can reuse it; the
    rest of what was computed is plain input.
    """
    return {
        "input_tokens": (
            usage.num_prompt_tokens - usage.num_cached_tokens - usage.num_stored_tokens
        ),
        "cache_creation_input_tokens": usage.num_stored_tokens,
        "cache_read_input_tokens": usage.num_cached_tokens,
        "output_tokens": usage.num_generated_tokens,
    }


def _message_body(turn: Turn, usage: Usage) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": turn.model_id,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_body(usage),
    }


def _reply_body(turn: Turn, reply: Reply) -> dict[str, Any]:
    body = _message_body(turn, reply.last.usage)
    body["content"] = [{"type": "text", "text": reply.text}]
    return body | _ending(reply.last)


def _ending(last: Delta) -> dict[str, Any]:
    reason = _STOP_REASONS[last.finish_reason or FinishReason.END_TURN]
    return {"stop_reason": reason, "stop_sequence": last.stop_string}


class AnthropicEvents:
    """Writes a turn as Anthropic's stream of named events."""

    def __init__(self, turn: Turn) -> None:
        """Makes a writer for one turn."""
        self._turn = turn

    def start(self, first: Delta) -> bytes:
        """``message_start``, the opening of the text block, and a first ping."""
        body = {"type": "message_start", "message": _message_body(self._turn, first.usage)}
        return b"event: message_start\ndata: " + compact(body) + b"\n\n" + _BLOCK_START + _PING

    def piece(self, piece: Piece) -> bytes:
        """One ``content_block_delta``; nothing for what is no text."""
        if not isinstance(piece, TextPiece):
            return b""
        return _TEXT_HEAD + quoted(piece.text) + _TEXT_TAIL

    def finish(self, last: Delta) -> bytes:
        """The end of the block, why the reply ended, and the end of the message."""
        body = {"type": "message_delta", "delta": _ending(last), "usage": usage_body(last.usage)}
        return (
            _BLOCK_STOP + b"event: message_delta\ndata: " + compact(body) + b"\n\n" + _MESSAGE_STOP
        )

    def error(self, error: Exception) -> bytes:
        """An ``error`` event; the stream ends with it."""
        body = error_body(error, Dialect.ANTHROPIC, self._turn.request_id)
        return b"event: error\ndata: " + compact(body) + b"\n\n"

    def ping(self) -> bytes:
        """A ``ping`` event, which clients skip wherever it stands."""
        return _PING


def anthropic_router(service: TurnService) -> APIRouter:
    """The routes of the Anthropic API."""
    router = APIRouter(tags=["anthropic"])

    @router.post("/v1/messages", summary="Create a message", response_model=None)
    async def create_message(request: Request) -> Response:
        turn = await service.begin(
            await request.body(),
            parse_messages,
            request.headers,
            request.receive,
            record_of(request.scope),
            "anthropic",
        )
        if turn.draft.stream:
            return EventStream(service, turn, AnthropicEvents(turn))
        try:
            reply = await turn.whole_reply()
        finally:
            service.forget(turn)
        return JSONResponse(_reply_body(turn, reply))

    @router.post("/v1/messages/count_tokens", summary="Count tokens", response_model=None)
    async def count_tokens(request: Request) -> Response:
        num_tokens = await service.count_tokens(
            await request.body(), parse_messages, record_of(request.scope)
        )
        return JSONResponse({"input_tokens": num_tokens})

    return router
