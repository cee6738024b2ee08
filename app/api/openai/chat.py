"""Chat completions: ``/v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.choices import Choices
from app.api.openai.chat_events import ChatEvents, finish_reason
from app.api.openai.chat_schema import ChatDraft, parse_chat_completion
from app.api.openai.choice_events import respond
from app.api.openai.logprobs import chat_logprobs_body
from app.api.openai.wire import call_name, frame, usage_body
from app.api.prepared import Prepared
from app.api.reply import CallBlock, Reply
from app.api.service import TurnService
from app.api.telemetry import record_of
from engine.request import Usage


def chat_router(service: TurnService) -> APIRouter:
    """The route of chat completions."""
    router = APIRouter(tags=["openai"])

    @router.post("/v1/chat/completions", summary="Create a chat completion", response_model=None)
    async def create_chat_completion(request: Request) -> Response:
        record = record_of(request.scope)
        body = await request.body()

        async def attempt() -> tuple[Prepared[ChatDraft], Choices[ChatDraft]]:
            prepared = await service.prepare(body, parse_chat_completion, request.headers, record)
            choices = Choices(service, prepared, record)
            await choices.begin(prepared.draft.num_choices, request.receive, "openai")
            return prepared, choices

        prepared, choices = await service.with_model(attempt)
        encoder = _events(prepared, record.request_id) if prepared.draft.stream else None
        return await respond(
            choices, encoder, lambda replies: _body(prepared, replies, choices.usage)
        )

    return router


def _events(prepared: Prepared[ChatDraft], request_id: str) -> ChatEvents:
    return ChatEvents(
        prepared.model_id,
        request_id,
        prepared.num_tokens,
        include_usage=prepared.draft.include_usage,
    )


def _body(prepared: Prepared[ChatDraft], replies: Sequence[Reply], usage: Usage) -> dict[str, Any]:
    reasoning = "".join(reply.reasoning for reply in replies)
    with_logprobs = prepared.draft.sampling.num_logprobs is not None
    choices = [
        _choice(number, reply, with_logprobs=with_logprobs) for number, reply in enumerate(replies)
    ]
    return frame(prepared.model_id, "chatcmpl", "chat.completion") | {
        "choices": choices,
        "usage": usage_body(usage, prepared.num_tokens(reasoning)),
    }


def _choice(number: int, reply: Reply, *, with_logprobs: bool) -> dict[str, Any]:
    return {
        "index": number,
        "message": _message(reply),
        "logprobs": chat_logprobs_body(reply.logprobs) if with_logprobs else None,
        "finish_reason": finish_reason(reply.last, has_calls=bool(reply.calls)),
    }


def _message(reply: Reply) -> dict[str, Any]:
    content = reply.text if reply.text or not reply.calls else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.calls:
        message["tool_calls"] = [_call(call) for call in reply.calls]
    return message


def _call(call: CallBlock) -> dict[str, Any]:
    return {
        "id": call_name(call.call_id),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_json},
    }
