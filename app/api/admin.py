"""The engine's state and its agents: what the dashboard sees and does, over HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import Future
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from engine.commands import EvictAgent, PinAgent
from engine.errors import AgentNotFoundError, UnavailableError
from engine.face import EngineFace
from engine.snapshot import AgentRow, to_json

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


def admin_router(engine: EngineFace) -> APIRouter:
    """The routes over the engine's snapshot and commands."""
    router = APIRouter(tags=["admin"])

    @router.get("/admin/state", summary="The engine's snapshot", response_model=None)
    async def state() -> Response:
        return JSONResponse(to_json(engine.snapshot))

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

    @router.post("/v1/agents/{agent_id:path}/pin", summary="Pin", response_model=None)
    async def pin_agent(agent_id: str) -> Response:
        return await set_pinned(agent_id, pinned=True)

    @router.post("/v1/agents/{agent_id:path}/unpin", summary="Unpin", response_model=None)
    async def unpin_agent(agent_id: str) -> Response:
        return await set_pinned(agent_id, pinned=False)

    async def set_pinned(agent_id: str, *, pinned: bool) -> Response:
        command = PinAgent(agent_id=agent_id, pinned=pinned)
        engine.send(command)
        is_pinned = await answer_of(command.done)
        return JSONResponse({"agent_id": agent_id, "pinned": is_pinned})

    return router
