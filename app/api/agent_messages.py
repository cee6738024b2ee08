"""Agents whose conversation the server keeps: made, talked to, and looked at over HTTP."""

from __future__ import annotations

import json
import uuid
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.agents import agent_name, namespace_of
from app.api.anthropic.events import AnthropicEvents
from app.api.anthropic.message import reply_body
from app.api.anthropic.schema import parse_messages
from app.api.conversations import Conversation, Conversations
from app.api.draft import TurnDraft
from app.api.fields import Fields, parse_object
from app.api.reply import Reply, blocks_of
from app.api.service import Parse, TurnService
from app.api.sse import EventStream, TurnEvents
from app.api.telemetry import record_of
from app.api.turns import Turn
from engine.pieces import Piece
from engine.request import Delta

_OPENING = ("system", "tools")
_PROTOCOL = "anthropic"
_NO_WORD = {"role": "user", "content": ""}


def _parse_opening(body: Fields) -> TurnDraft:
    """What an agent begins with. Templates want somebody to speak, so an empty word is put in."""
    is_said = bool(body.get("messages"))
    return parse_messages(body if is_said else Fields(body.values | {"messages": [_NO_WORD]}))


def _turn_body(conversation: Conversation, said: Fields) -> bytes:
    """A request of the Messages API for what is said next.

    Raises:
        FieldError: It says what is the agent's to say.
    """
    for name in (*_OPENING, "messages"):
        if said.get(name) is not None:
            raise said.error(name, "is the agent's and cannot be changed; send content")
    if said.get("content") is None:
        raise said.error("content", "field required")
    rest = {name: value for name, value in said.values.items() if name != "content"}
    messages = [*conversation.messages, _user(said)]
    return json.dumps(rest | conversation.opening | {"messages": messages}).encode("ascii")


def _user(said: Fields) -> dict[str, Any]:
    return {"role": "user", "content": said.get("content")}


class _Exchange:
    """A message to an agent and the reply to it. Only a whole one becomes part of the talk."""

    def __init__(self, kept: Conversations, conversation: Conversation, said: Fields) -> None:
        self._kept = kept
        self._conversation = conversation
        self._said = _user(said)

    def end(self, turn: Turn, reply: Reply) -> dict[str, Any]:
        """Keeps both; returns the reply as a message."""
        body = reply_body(turn, reply)
        answer = {"role": body["role"], "content": body["content"]}
        turn_number = reply.last.usage.turn_number
        self._kept.extend(self._conversation, turn_number, self._said, answer)
        return body

    def close(self) -> None:
        """Lets others talk to the agent."""
        self._conversation.is_busy = False


class _KeptEvents(AnthropicEvents):
    """Writes a turn as events, and keeps it once it is whole."""

    def __init__(self, turn: Turn, exchange: _Exchange) -> None:
        super().__init__(turn)
        self._exchange = exchange
        self._pieces: list[Piece] = []

    def piece(self, piece: Piece) -> bytes:
        self._pieces.append(piece)
        return super().piece(piece)

    def finish(self, last: Delta) -> bytes:
        self._exchange.end(self._turn, Reply(blocks_of(self._pieces), last))
        return super().finish(last)


class _ExchangeEvents(TurnEvents):
    """The events of a turn that others wait for."""

    def __init__(self, service: TurnService, turn: Turn, exchange: _Exchange) -> None:
        super().__init__(service, turn, _KeptEvents(turn, exchange))
        self._exchange = exchange

    async def close(self) -> None:
        await super().close()
        self._exchange.close()


def agent_messages_router(service: TurnService, kept: Conversations) -> APIRouter:
    """The routes. They go before those that take any path for an agent's id."""
    router = APIRouter(tags=["agents"])

    @router.post("/v1/agents", summary="Create an agent", status_code=201, response_model=None)
    async def create_agent(request: Request) -> Response:
        content = await request.body()
        fields = parse_object(content if content.strip() else b"{}")
        agent_id = agent_name(fields.text("id")) or f"agent-{uuid.uuid4().hex[:12]}"
        opening = {name: fields.get(name) for name in _OPENING if fields.get(name) is not None}
        messages: list[dict[str, Any]] = [dict(each.values) for each in fields.children("messages")]
        conversation = Conversation((namespace_of(request), agent_id), opening, messages)
        kept.add(conversation)
        try:
            with kept.held(conversation):
                usage = await _warm(service, request, conversation)
        except BaseException:
            kept.forget(conversation.key)
            raise
        conversation.is_busy = False
        return JSONResponse({"agent_id": agent_id, **usage}, status_code=201)

    @router.post(
        "/v1/agents/{agent_id:path}/messages", summary="Talk to an agent", response_model=None
    )
    async def send_message(agent_id: str, request: Request) -> Response:
        said = parse_object(await request.body())
        conversation = kept.get((namespace_of(request), agent_id))
        content = _turn_body(conversation, said)
        kept.check_grows(conversation, _user(said))
        with kept.held(conversation):
            turn = await _begin(service, request, conversation, content)
        exchange = _Exchange(kept, conversation, said)
        if turn.draft.stream:
            return EventStream(_ExchangeEvents(service, turn, exchange), service.settings.ping_s)
        try:
            return JSONResponse(exchange.end(turn, await turn.whole_reply()))
        finally:
            service.forget(turn)
            exchange.close()

    @router.get(
        "/v1/agents/{agent_id:path}/messages", summary="Show a conversation", response_model=None
    )
    async def show_messages(agent_id: str, request: Request) -> Response:
        conversation = kept.get((namespace_of(request), agent_id))
        body = {"object": "list", "agent_id": agent_id, "data": conversation.messages}
        return JSONResponse(conversation.opening | body)

    return router


async def _begin(
    service: TurnService,
    request: Request,
    conversation: Conversation,
    content: bytes,
    parse: Parse = parse_messages,
) -> Turn:
    # Whatever else the request says of who is asking: the path has named the agent.
    headers = {"x-agent-id": conversation.key[1].encode().decode("latin-1")}
    record = record_of(request.scope)
    return await service.begin(content, parse, headers, request.receive, record, _PROTOCOL)


async def _warm(
    service: TurnService, request: Request, conversation: Conversation
) -> dict[str, int]:
    """Has what an agent begins with computed, so that its first turn need not."""
    body = conversation.opening | {"messages": conversation.messages, "max_tokens": 0}
    content = json.dumps(body).encode("ascii")
    turn = await _begin(service, request, conversation, content, _parse_opening)
    try:
        reply = await turn.whole_reply()
    finally:
        service.forget(turn)
    usage = reply.last.usage
    conversation.end_turn(usage.turn_number)
    return {"num_tokens": usage.num_prompt_tokens, "num_cached_tokens": usage.num_cached_tokens}
