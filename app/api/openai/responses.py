"""Responses: ``/v1/responses``, and those that are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.errors import FieldError
from app.api.openai.response_body import ResponseBody, is_cut
from app.api.openai.response_events import ResponseEvents
from app.api.openai.response_items import OutputItems
from app.api.openai.response_schema import ResponseDraft, ResponseParser
from app.api.openai.response_store import ResponseStore, StoredItem
from app.api.prepared import Prepared
from app.api.service import TurnService
from app.api.sse import EventStream, TurnEvents
from app.api.telemetry import record_of
from app.api.turns import Turn

DEFAULT_PAGE = 20
MAX_PAGE = 100


def responses_router(service: TurnService) -> APIRouter:
    """The routes of responses."""
    router = APIRouter(tags=["openai"])
    settings = service.settings
    store = ResponseStore(settings.max_stored_responses, settings.max_stored_response_bytes)

    @router.post("/v1/responses", summary="Create a response", response_model=None)
    async def create_response(request: Request) -> Response:
        record = record_of(request.scope)
        parser = ResponseParser(store, record.namespace)
        content = await request.body()

        async def attempt() -> tuple[Prepared[ResponseDraft], Turn]:
            prepared = await service.prepare(content, parser, request.headers, record)
            return prepared, await service.start(prepared, request.receive, record, "openai")

        prepared, turn = await service.with_model(attempt)
        body = ResponseBody(prepared, store, record.namespace)
        output = OutputItems(prepared.draft.names)
        if prepared.draft.stream:
            events = ResponseEvents(body, output, record.request_id)
            return EventStream(TurnEvents(service, turn, events), settings.ping_s)
        try:
            return JSONResponse(await _whole(turn, body, output))
        finally:
            service.forget(turn)

    @router.get("/v1/responses/{response_id}", summary="Show a response", response_model=None)
    async def show_response(request: Request, response_id: str) -> Response:
        if request.query_params.get("stream") == "true":
            raise FieldError("stream", "a response that has ended is not streamed again")
        stored = store.get(record_of(request.scope).namespace, response_id)
        return Response(stored.body, media_type="application/json")

    @router.delete("/v1/responses/{response_id}", summary="Forget a response", response_model=None)
    async def delete_response(request: Request, response_id: str) -> Response:
        store.remove(record_of(request.scope).namespace, response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    @router.get(
        "/v1/responses/{response_id}/input_items",
        summary="List what a response was made from",
        response_model=None,
    )
    async def list_input_items(request: Request, response_id: str) -> Response:
        stored = store.get(record_of(request.scope).namespace, response_id)
        return JSONResponse(_page(stored.input_items(), request.query_params))

    return router


async def _whole(turn: Turn, body: ResponseBody, output: OutputItems) -> dict[str, Any]:
    reply = await turn.whole_reply()
    output.take(reply, is_cut=is_cut(reply.last))
    return body.finished(output.items, reply.last)


def _page(items: Sequence[StoredItem], query: Mapping[str, str]) -> dict[str, Any]:
    """A part of a list of items, newest first unless asked otherwise.

    Raises:
        FieldError: The query asks for no part of it.
    """
    limit = query.get("limit", str(DEFAULT_PAGE))
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_PAGE:
        raise FieldError("limit", f"must be between 1 and {MAX_PAGE}")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise FieldError("order", "must be asc or desc")
    ordered = list(items) if order == "asc" else list(reversed(items))
    after = query.get("after")
    if after is not None:
        places = [place for place, item in enumerate(ordered) if item.item_id == after]
        if not places:
            raise FieldError("after", "is not an item of this response")
        ordered = ordered[places[0] + 1 :]
    page = ordered[: int(limit)]
    return {
        "object": "list",
        "data": [json.loads(item.content) for item in page],
        "first_id": page[0].item_id if page else None,
        "last_id": page[-1].item_id if page else None,
        "has_more": len(ordered) > len(page),
    }
