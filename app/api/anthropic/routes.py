"""The routes of the Anthropic API: ``/v1/messages`` and ``/v1/messages/count_tokens``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.anthropic.events import AnthropicEvents
from app.api.anthropic.message import reply_body
from app.api.anthropic.schema import parse_messages
from app.api.service import TurnService
from app.api.sse import EventStream, TurnEvents
from app.api.telemetry import record_of


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
            events = TurnEvents(service, turn, AnthropicEvents(turn))
            return EventStream(events, service.settings.ping_s)
        try:
            reply = await turn.whole_reply()
        finally:
            service.forget(turn)
        return JSONResponse(reply_body(turn, reply))

    @router.post("/v1/messages/count_tokens", summary="Count tokens", response_model=None)
    async def count_tokens(request: Request) -> Response:
        num_tokens = await service.count_tokens(
            await request.body(), parse_messages, record_of(request.scope)
        )
        return JSONResponse({"input_tokens": num_tokens})

    return router
