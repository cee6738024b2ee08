"""What can be done to an agent's turns over HTTP: end them, hold them, let them go ahead."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.agents import namespace_of
from app.api.answers import answer_of
from app.api.errors import FieldError, ForbiddenError
from app.api.fields import parse_object
from app.api.telemetry import record_of
from engine.commands import AbortAgent, PauseAgent, SetPriority
from engine.errors import InvalidRequestError
from engine.face import EngineFace
from engine.turn_limits import NORMAL_PRIORITY, check_priority


def _priority_command(agent_id: str, request: Request, body: bytes) -> SetPriority:
    """The priority that a body asks for.

    Raises:
        InvalidRequestError: The body is no JSON object, or there is no such priority.
        ForbiddenError: A named key asks to go ahead of others.
    """
    fields = parse_object(body)
    priority = fields.integer("priority")
    if priority is None:
        raise fields.error("priority", "field required")
    try:
        check_priority(priority)
    except InvalidRequestError as error:
        raise FieldError("priority", str(error)) from error
    if record_of(request.scope).namespace and priority > NORMAL_PRIORITY:
        raise ForbiddenError("going ahead of other keys' agents takes the operator's key")
    return SetPriority(agent_id=agent_id, priority=priority, namespace=namespace_of(request))


def agent_turns_router(engine: EngineFace) -> APIRouter:
    """The routes about agents' turns."""
    router = APIRouter(tags=["agents"])

    @router.post("/v1/agents/{agent_id:path}/abort", summary="Abort", response_model=None)
    async def abort_agent(agent_id: str, request: Request) -> Response:
        command = AbortAgent(agent_id=agent_id, namespace=namespace_of(request))
        engine.send(command)
        num_ended = await answer_of(command.done)
        return JSONResponse({"agent_id": agent_id, "num_ended": num_ended})

    @router.post("/v1/agents/{agent_id:path}/pause", summary="Pause", response_model=None)
    async def pause_agent(agent_id: str, request: Request) -> Response:
        return await _set_paused(engine, agent_id, namespace_of(request), paused=True)

    @router.post("/v1/agents/{agent_id:path}/resume", summary="Resume", response_model=None)
    async def resume_agent(agent_id: str, request: Request) -> Response:
        return await _set_paused(engine, agent_id, namespace_of(request), paused=False)

    @router.post("/v1/agents/{agent_id:path}/priority", summary="Priority", response_model=None)
    async def set_priority(agent_id: str, request: Request) -> Response:
        command = _priority_command(agent_id, request, await request.body())
        engine.send(command)
        priority = await answer_of(command.done)
        return JSONResponse({"agent_id": agent_id, "priority": priority})

    return router


async def _set_paused(
    engine: EngineFace, agent_id: str, namespace: str, *, paused: bool
) -> Response:
    command = PauseAgent(agent_id=agent_id, namespace=namespace, paused=paused)
    engine.send(command)
    is_paused = await answer_of(command.done)
    return JSONResponse({"agent_id": agent_id, "paused": is_paused})
