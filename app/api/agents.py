"""The agents over HTTP: what the dashboard shows of them, and what it does to them."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import Future
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.errors import FieldError
from app.api.fields import parse_object
from engine.commands import EvictAgent, ForkAgent, PinAgent, WarmAgent
from engine.errors import AgentNotFoundError, InvalidRequestError, UnavailableError
from engine.face import EngineFace
from engine.request import check_agent_id
from engine.snapshot import AgentRow

COMMAND_TIMEOUT_S = 30.0
T = TypeVar("T")


async def answer_of(done: Future[T]) -> T:
    """The engine's answer to a command.

    The future itself is never cancelled: the engine still has to be able to answer it.

    Raises:
        UnavailableError: The engine gave none in time.
    """
    waiting = asyncio.shield(asyncio.wrap_future(done))
    try:
        return await asyncio.wait_for(waiting, COMMAND_TIMEOUT_S)
    except TimeoutError as error:
        raise UnavailableError("the engine did not answer in time") from error


def _agent_body(agent: AgentRow) -> dict[str, Any]:
    return dataclasses.asdict(agent) | {"hit_ratio": agent.hit_ratio}


def _fork_name(body: bytes) -> str | None:
    """The name that a fork is asked to have; None where the body is empty or names none.

    Raises:
        InvalidRequestError: The body is no JSON object, or the name is not fit for an agent.
    """
    if not body.strip():
        return None
    name = parse_object(body).text("id")
    if name is not None:
        try:
            check_agent_id(name)
        except InvalidRequestError as error:
            raise FieldError("id", str(error)) from error
    return name


async def _set_pinned(engine: EngineFace, agent_id: str, *, pinned: bool) -> Response:
    command = PinAgent(agent_id=agent_id, pinned=pinned)
    engine.send(command)
    is_pinned = await answer_of(command.done)
    return JSONResponse({"agent_id": agent_id, "pinned": is_pinned})


def agents_router(engine: EngineFace) -> APIRouter:
    """The routes under ``/v1/agents``."""
    router = APIRouter(tags=["agents"])

    @router.get("/v1/agents", summary="List agents", response_model=None)
    async def list_agents() -> Response:
        rows = [_agent_body(agent) for agent in engine.snapshot.agents]
        return JSONResponse({"object": "list", "data": rows})

    # Ids may hold slashes (a Claude Code sub-agent has one), so the id takes the whole path.
    @router.get("/v1/agents/{agent_id:path}", summary="Show an agent", response_model=None)
    async def show_agent(agent_id: str) -> Response:
        agent = engine.snapshot.agent(agent_id)
        if agent is None:
            raise AgentNotFoundError(agent_id)
        return JSONResponse(_agent_body(agent))

    @router.post("/v1/agents/{agent_id:path}/evict", summary="Evict", response_model=None)
    async def evict_agent(agent_id: str) -> Response:
        command = EvictAgent(agent_id=agent_id)
        engine.send(command)
        freed = await answer_of(command.done)
        return JSONResponse({"agent_id": agent_id, "freed_bytes": freed})

    @router.post("/v1/agents/{agent_id:path}/warm", summary="Warm", response_model=None)
    async def warm_agent(agent_id: str) -> Response:
        command = WarmAgent(agent_id=agent_id)
        engine.send(command)
        num_tokens = await answer_of(command.done)
        return JSONResponse({"agent_id": agent_id, "num_tokens": num_tokens})

    @router.post(
        "/v1/agents/{agent_id:path}/fork", summary="Fork", status_code=201, response_model=None
    )
    async def fork_agent(agent_id: str, request: Request) -> Response:
        command = ForkAgent(agent_id=agent_id, fork_id=_fork_name(await request.body()))
        engine.send(command)
        fork_id = await answer_of(command.done)
        return JSONResponse({"agent_id": fork_id, "forked_from": agent_id}, status_code=201)

    @router.post("/v1/agents/{agent_id:path}/pin", summary="Pin", response_model=None)
    async def pin_agent(agent_id: str) -> Response:
        return await _set_pinned(engine, agent_id, pinned=True)

    @router.post("/v1/agents/{agent_id:path}/unpin", summary="Unpin", response_model=None)
    async def unpin_agent(agent_id: str) -> Response:
        return await _set_pinned(engine, agent_id, pinned=False)

    return router
