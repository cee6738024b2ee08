"""``/v1/capabilities``: what this server and its model can do, as they are now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.draft import canonical_json
from app.api.service import TurnService
from app.api.settings import ApiSettings
from app.version import __version__
from engine.errors import InvalidRequestError
from engine.messages import ChatFormat, Message, Role, ToolChoice, ToolSpec, ToolUse
from engine.snapshot import EngineSnapshot

_DIALECTS = {
    "anthropic.messages": "/v1/messages",
    "openai.chat_completions": "/v1/chat/completions",
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
}
_ASKED = (Message(role=Role.USER, text="?"),)
_SCHEMA = canonical_json(
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
)
_TOOL = ToolSpec(name="probe", description="", parameters_json=_SCHEMA)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the text side of a model can do, found out by asking it.

    Attributes:
        tools: Whether its prompt shows the tools that it may call.
        tool_choice: Whether it can be held to call one.
        json_schema: Whether it can be held to a JSON schema.
        reasoning: Whether its reasoning is told from its text.
    """

    tools: bool
    tool_choice: bool
    json_schema: bool
    reasoning: bool


def abilities_of(chat_format: ChatFormat) -> Abilities:
    """Tries what a model's text side can do."""
    without = chat_format.render_chat(_ASKED)
    must_call = ToolChoice(use=ToolUse.REQUIRED)
    try:
        with_tool = chat_format.render_chat(_ASKED, (_TOOL,))
        shows_tools = with_tool.token_ids != without.token_ids
    except InvalidRequestError:
        shows_tools = False
    return Abilities(
        tools=shows_tools,
        tool_choice=_can_constrain(chat_format, (_TOOL,), must_call, None),
        json_schema=_can_constrain(chat_format, (), ToolChoice(), _SCHEMA),
        reasoning=chat_format.tells_reasoning,
    )


def _can_constrain(
    chat_format: ChatFormat, tools: tuple[ToolSpec, ...], choice: ToolChoice, schema: str | None
) -> bool:
    try:
        return chat_format.constrain(tools, choice, schema) is not None
    except InvalidRequestError:
        return False


def _model_body(snapshot: EngineSnapshot, abilities: Abilities | None) -> dict[str, Any] | None:
    model = snapshot.model_detail
    if model is None or abilities is None:
        return None
    return {
        "id": model.model_id,
        "architecture": model.architecture,
        "max_context_tokens": model.max_context_tokens,
        "dtype": model.dtype,
        "batching": model.batching,
        "kv_format": model.kv_format,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "tools": abilities.tools,
        "tool_choice": abilities.tool_choice,
        "json_schema": abilities.json_schema,
        "reasoning": abilities.reasoning,
    }


def _cache_body(snapshot: EngineSnapshot) -> dict[str, Any]:
    return {
        "memory_bytes": snapshot.pool.bytes_budget,
        "block_tokens": snapshot.pool.block_tokens,
        "is_on_disk": snapshot.disk.is_on,
        "disk_bytes": snapshot.disk.bytes_budget,
        "why_not_on_disk": snapshot.disk.reason_off,
    }


def _limits_body(settings: ApiSettings) -> dict[str, Any]:
    return {
        "body_bytes": settings.body_limit_bytes,
        "rate_per_minute": settings.rate_limit_per_minute or None,
        "request_timeout_s": settings.request_timeout_s or None,
        "requests": settings.max_requests,
        "connections": settings.max_connections,
        "conversations": settings.max_conversations,
        "conversation_bytes": settings.max_conversation_bytes,
        "agent_file_bytes": settings.transfer_limit_bytes if settings.transfer_folder else 0,
    }


def capabilities_router(service: TurnService) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["models"])
    known: dict[ChatFormat, Abilities] = {}

    @router.get("/v1/capabilities", summary="What is offered here", response_model=None)
    async def show_capabilities(request: Request) -> Response:
        chat_format, snapshot = service.engine.chat_format, service.engine.snapshot
        if chat_format is not None and chat_format not in known:
            abilities = await asyncio.to_thread(abilities_of, chat_format)
            known.clear()
            known[chat_format] = abilities
        paths = request.app.openapi()["paths"]
        abilities_now = known.get(chat_format) if chat_format is not None else None
        return JSONResponse(
            {
                "name": "stoker",
                "version": __version__,
                "status": snapshot.status.value,
                "device": snapshot.device or None,
                "dialects": [name for name, path in _DIALECTS.items() if path in paths],
                "model": _model_body(snapshot, abilities_now),
                "cache": _cache_body(snapshot),
                "limits": _limits_body(service.settings),
                "unknown_model": service.settings.unknown_model,
            }
        )

    return router
