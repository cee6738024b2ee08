"""Legacy completions: ``/v1/completions``, text that goes on without a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.choices import Choices
from app.api.openai.choice_events import respond
from app.api.openai.completion_events import CompletionEvents
from app.api.openai.completion_schema import CompletionDraft, parse_completion
from app.api.openai.logprobs import completion_logprobs_body
from app.api.openai.wire import FINISH_REASONS, frame, usage_body
from app.api.prepared import Prepared
from app.api.reply import Reply
from app.api.service import TurnService
from app.api.telemetry import record_of
from engine.request import FinishReason, Usage


def completions_router(service: TurnService) -> APIRouter:
    """The route of legacy completions."""
    router = APIRouter(tags=["openai"])

    @router.post("/v1/completions", summary="Complete a text", response_model=None)
    async def create_completion(request: Request) -> Response:
        record = record_of(request.scope)
        body = await request.body()

        async def attempt() -> tuple[Prepared[CompletionDraft], Choices[CompletionDraft]]:
            prepared = await service.prepare(body, parse_completion, request.headers, record)
            choices = Choices(service, prepared, record)
            await choices.begin(prepared.draft.num_choices, request.receive, "openai")
            return prepared, choices

        prepared, choices = await service.with_model(attempt)
        encoder = CompletionEvents(prepared, record.request_id) if prepared.draft.stream else None
        return await respond(
            choices, encoder, lambda replies: _body(prepared, replies, choices.usage)
        )

    return router


def _body(
    prepared: Prepared[CompletionDraft], replies: Sequence[Reply], usage: Usage
) -> dict[str, Any]:
    choices = [_choice(prepared, number, reply) for number, reply in enumerate(replies)]
    return frame(prepared.model_id, "cmpl", "text_completion") | {
        "choices": choices,
        "usage": usage_body(usage),
    }


def _choice(prepared: Prepared[CompletionDraft], number: int, reply: Reply) -> dict[str, Any]:
    draft = prepared.draft
    with_logprobs = draft.sampling.num_logprobs is not None
    return {
        "index": number,
        "text": draft.echo(number, prepared.chat_format) + reply.text,
        "logprobs": completion_logprobs_body(reply.logprobs, 0) if with_logprobs else None,
        "finish_reason": FINISH_REASONS[reply.last.finish_reason or FinishReason.END_TURN],
    }
