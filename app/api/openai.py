"""The OpenAI Chat Completions API: ``/v1/chat/completions``."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.errors import Dialect, error_body
from app.api.openai_schema import parse_chat_completion
from app.api.reply import Reply
from app.api.service import TurnService
from app.api.sse import EventStream, compact, quoted
from app.api.telemetry import record_of
from app.api.turns import Turn
from app.version import __version__
from engine.pieces import Piece, TextPiece
from engine.request import Delta, FinishReason, Usage

_FINISH_REASONS = {
    FinishReason.END_TURN: "stop",
    FinishReason.STOP_STRING: "stop",
    FinishReason.MAX_TOKENS: "length",
}
_FINGERPRINT = f"stoker_{__version__}"
_PING = b": ping\n\n"
_DONE = b"data: [DONE]\n\n"


def usage_body(usage: Usage) -> dict[str, Any]:
    """Token counts by OpenAI's convention: cached tokens are part of the prompt's."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_generated_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached_tokens},
    }


def _finish_reason(last: Delta) -> str:
    return _FINISH_REASONS[last.finish_reason or FinishReason.END_TURN]


def _frame(turn: Turn, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": turn.model_id,
        "system_fingerprint": _FINGERPRINT,
    }


def _reply_body(turn: Turn, reply: Reply) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.text, "refusal": None},
        "logprobs": None,
        "finish_reason": _finish_reason(reply.last),
    }
    usage = usage_body(reply.last.usage)
    return _frame(turn, "chat.completion") | {"choices": [choice], "usage": usage}


class OpenAIEvents:
    """Writes a turn as OpenAI's stream of chunks."""

    def __init__(self, turn: Turn) -> None:
        """Makes a writer for one turn."""
        self._turn = turn
        frame = compact(_frame(turn, "chat.completion.chunk"))
        self._head = b"data: " + frame[:-1]
        # A stream that ends with a usage chunk says so in every other chunk.
        self._tail = b',"usage":null}\n\n' if turn.draft.include_usage else b"}\n\n"
        self._text_head = self._head + b',"choices":[{"index":0,"delta":{"content":'
        self._text_tail = b'},"finish_reason":null}]' + self._tail

    def start(self, first: Delta) -> bytes:
        """The chunk that names the role."""
        delta = b'"delta":{"role":"assistant","content":""}'
        choices = b',"choices":[{"index":0,' + delta + b',"finish_reason":null}]'
        return self._head + choices + self._tail

    def piece(self, piece: Piece) -> bytes:
        """One chunk of content; nothing for what is no text."""
        if not isinstance(piece, TextPiece):
            return b""
        return self._text_head + quoted(piece.text) + self._text_tail

    def finish(self, last: Delta) -> bytes:
        """Why the reply ended, its usage where asked for, and the end mark."""
        reason = quoted(_finish_reason(last))
        choices = b',"choices":[{"index":0,"delta":{},"finish_reason":' + reason + b"}]"
        closing = self._head + choices + self._tail
        if self._turn.draft.include_usage:
            usage = compact(usage_body(last.usage))
            closing += self._head + b',"choices":[],"usage":' + usage + b"}\n\n"
        return closing + _DONE

    def error(self, error: Exception) -> bytes:
        """A chunk that is an error, and the end mark."""
        body = error_body(error, Dialect.OPENAI, self._turn.request_id)
        return b"data: " + compact(body) + b"\n\n" + _DONE

    def ping(self) -> bytes:
        """A comment: this protocol has no event for it."""
        return _PING


def openai_router(service: TurnService) -> APIRouter:
    """The routes of the OpenAI API."""
    router = APIRouter(tags=["openai"])

    @router.post("/v1/chat/completions", summary="Create a chat completion", response_model=None)
    async def create_chat_completion(request: Request) -> Response:
        turn = await service.begin(
            await request.body(),
            parse_chat_completion,
            request.headers,
            request.receive,
            record_of(request.scope),
            "openai",
        )
        if turn.draft.stream:
            return EventStream(service, turn, OpenAIEvents(turn))
        try:
            reply = await turn.whole_reply()
        finally:
            service.forget(turn)
        return JSONResponse(_reply_body(turn, reply))

    return router
