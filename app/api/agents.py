"""The agents over HTTP: what the dashboard shows of them, and what it does to them."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.answers import answer_of
from app.api.conversations import Conversations
from app.api.errors import FieldError, ForbiddenError
from app.api.fields import parse_object
from app.api.telemetry import record_of
from engine.agent_commands import EvictAgent, ForkAgent, PinAgent, ReadAgent, RemoveAgent, WarmAgent
from engine.errors import AgentNotFoundError, InvalidRequestError
from engine.face import EngineFace
from engine.request import check_agent_id
from engine.snapshot import AgentRow


def _agent_body(agent: AgentRow) -> dict[str, Any]:
    body = dataclasses.asdict(agent)
    body["miss"]["words"] = agent.miss.words
    return body | {"hit_ratio": agent.hit_ratio}


def agent_name(name: str | None) -> str | None:
    """A name that an agent is to have; None where none is asked for.

    Raises:
        FieldError: It is not fit for an agent.
    """
    if name is not None:
        try:
            check_agent_id(name)
        except InvalidRequestError as error:
            raise FieldError("id", str(error)) from error
    return name


def _fork_command(agent_id: str, namespace: str, body: bytes) -> ForkAgent:
    """The fork that a body asks for; an empty one leaves everything to the engine.

    Raises:
        InvalidRequestError: The body is no JSON object, or a field of it is wrong.
    """
    fields = parse_object(body if body.strip() else b"{}")
    turn = fields.integer("turn")
    if turn is not None and turn < 1:
        raise fields.error("turn", "must be 1 or more")
    return ForkAgent(
        agent_id=agent_id,
        fork_id=agent_name(fields.text("id")),
        turn=turn,
        namespace=namespace,
    )


def namespace_of(request: Request) -> str:
    """Whose agents there are for a request; others' are not found.

    Raises:
        ForbiddenError: It asks for those of another key, and is not the operator's.
    """
    own = record_of(request.scope).namespace
    wanted = request.query_params.get("namespace", own)
    # Named keys have names; the operator's namespace is the empty one.
    if own and wanted != own:
        raise ForbiddenError("this names another key's agents; it takes the operator's key")
    return wanted


async def _set_pinned(
    engine: EngineFace, agent_id: str, namespace: str, *, pinned: bool
) -> Response:
    command = PinAgent(agent_id=agent_id, namespace=namespace, pinned=pinned)
    engine.send(command)
    is_pinned = await answer_of(command.done)
    return JSONResponse({"agent_id": agent_id, "pinned": is_pinned})


def agents_router(engine: EngineFace, conversations: Conversations) -> APIRouter:
    """The routes under ``/v1/agents``, but for those of turns, files and conversations."""
    router = APIRouter(tags=["agents"])

    @router.get("/v1/agents", summary="List agents", response_model=None)
    async def list_agents(request: Request) -> Response:
        agents = [row for row in engine.snapshot.agents if row.namespace == namespace_of(request)]
        rows = [_agent_body(agent) for agent in agents if conversations.has_agent(agent.key)]
        return JSONResponse({"object": "list", "data": rows})

    @router.get("/v1/agents/{agent_id:path}/text", summary="Read", response_model=None)
    async def read_agent(agent_id: str, request: Request) -> Response:
        command = ReadAgent(
            agent_id=agent_id,
            namespace=namespace_of(request),
            with_reply=request.query_params.get("reply") == "true",
        )
        engine.send(command)
        text = await answer_of(command.done)
        headers = {"cache-control": "no-store"}
        return JSONResponse({"agent_id": agent_id, **dataclasses.asdict(text)}, headers=headers)

    # Ids may hold slashes (a Claude Code sub-agent has one), so the id takes the whole path.
    @router.get("/v1/agents/{agent_id:path}", summary="Show an agent", response_model=None)
    async def show_agent(agent_id: str, request: Request) -> Response:
        agent = engine.snapshot.agent(agent_id, namespace_of(request))
        if agent is None or not conversations.has_agent(agent.key):
            raise AgentNotFoundError(agent_id)
        return JSONResponse(_agent_body(agent))

    @router.delete("/v1/agents/{agent_id:path}", summary="Remove", response_model=None)
    async def remove_agent(agent_id: str, request: Request) -> Response:
        command = RemoveAgent(agent_id=agent_id, namespace=namespace_of(request))
        engine.send(command)
        freed = await answer_of(command.done)
        conversations.remove((command.namespace, agent_id))
        return JSONResponse({"agent_id": agent_id, "freed_bytes": freed})

    @router.post(
        "/v1/agents/{agent_id:path}/fork", summary="Fork", status_code=201, response_model=None
    )
    async def fork_agent(agent_id: str, request: Request) -> Response:
        command = _fork_command(agent_id, namespace_of(request), await request.body())
        # Taken now: what is said once the engine has the command is not part of the fork.
        conversation = conversations.forked((command.namespace, agent_id), command.turn)
        engine.send(command)
        fork_id = await answer_of(command.done)
        if conversation is not None:
            conversations.add_fork((command.namespace, fork_id), conversation)
        return JSONResponse({"agent_id": fork_id, "forked_from": agent_id}, status_code=201)

    router.include_router(_actions_router(engine))
    return router


def _actions_router(engine: EngineFace) -> APIRouter:
    """What can be done to an agent, but for what concerns its conversation."""
    router = APIRouter(tags=["agents"])

    @router.post("/v1/agents/{agent_id:path}/evict", summary="Evict", response_model=None)
    async def evict_agent(agent_id: str, request: Request) -> Response:
        command = EvictAgent(agent_id=agent_id, namespace=namespace_of(request))
        engine.send(command)
        eviction = await answer_of(command.done)
        return JSONResponse({"agent_id": agent_id, **dataclasses.asdict(eviction)})

    @router.post("/v1/agents/{agent_id:path}/warm", summary="Warm", response_model=None)
    async def warm_agent(agent_id: str, request: Request) -> Response:
        command = WarmAgent(agent_id=agent_id, namespace=namespace_of(request))
        engine.send(command)
        num_tokens = await answer_of(command.done)
        return JSONResponse({"agent_id": agent_id, "num_tokens": num_tokens})

    @router.post("/v1/agents/{agent_id:path}/pin", summary="Pin", response_model=None)
    async def pin_agent(agent_id: str, request: Request) -> Response:
        return await _set_pinned(engine, agent_id, namespace_of(request), pinned=True)

    @router.post("/v1/agents/{agent_id:path}/unpin", summary="Unpin", response_model=None)
    async def unpin_agent(agent_id: str, request: Request) -> Response:
        return await _set_pinned(engine, agent_id, namespace_of(request), pinned=False)

    return router
