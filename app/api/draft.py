"""One turn as a client asked for it, neutral of the protocol it came by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.api.fields import Fields
from engine.messages import Message, Role, ToolChoice, ToolSpec
from engine.request import SamplingParams

AS_THE_MODEL_LIKES = ToolChoice()
"""What holds where a client says nothing of the tools it offers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnDraft:
    """A parsed request, before tokens are counted.

    Attributes:
        model: The name the client asked for; empty when it named none.
        messages: The conversation, system prompt first.
        tools: The tools the client offers.
        sampling: How to choose tokens; its ``max_tokens`` is not yet decided.
        max_tokens: The client's bound of generated tokens; None for as many as fit.
        stream: Whether to answer with server-sent events.
        include_usage: Whether an OpenAI stream ends with a usage chunk.
        agent_id: Who the client says it is; None when it does not say.
        tool_choice: Whether the reply may, must or must not call a tool.
        response_schema_json: JSON schema that the text of the reply has to fit; None for any text.
        any_object: Whether the text of the reply has to be a JSON object, whatever is in it.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    sampling: SamplingParams
    max_tokens: int | None
    stream: bool
    include_usage: bool = False
    agent_id: str | None = None
    tool_choice: ToolChoice = AS_THE_MODEL_LIKES
    response_schema_json: str | None = None
    any_object: bool = False

    @property
    def agent_hint(self) -> str:
        """Name prefix for an agent that only its tools and system prompt tell apart."""
        if not self.tools and self.messages[0].role is not Role.SYSTEM:
            return "anon"
        digest = hashlib.sha256()
        for tool in self.tools:
            digest.update(f"{tool.name}\0{tool.description}\0{tool.parameters_json}\0".encode())
        for message in self.messages:
            if message.role is not Role.SYSTEM:
                break
            digest.update(message.text.encode())
        return f"anon-{digest.hexdigest()[:6]}"


def sampling_of(fields: Fields, stop: Sequence[str]) -> SamplingParams:
    """The sampling fields that both protocols, and local servers, have in common.

    Raises:
        InvalidRequestError: A value has the wrong type or is out of range.
    """
    seed = fields.get("seed")
    return SamplingParams(
        temperature=fields.number("temperature", 0.0),
        top_p=fields.number("top_p", 1.0),
        top_k=max(0, fields.small_integer("top_k", 0)),  # -1 means "all" to many clients
        min_p=fields.number("min_p", 0.0),
        repetition_penalty=fields.number("repetition_penalty", 1.0),
        presence_penalty=fields.number("presence_penalty", 0.0),
        frequency_penalty=fields.number("frequency_penalty", 0.0),
        # Clients send signed 64-bit seeds, random generators take unsigned ones.
        seed=None if seed is None else fields.small_integer("seed", 0) % 2**63,
        stop=tuple(stop),
    )


def max_tokens_of(fields: Fields, name: str) -> int | None:
    """The client's bound of generated tokens; far too large a bound is fine, it is clamped.

    Raises:
        FieldError: It is no integer, or less than 1.
    """
    value = fields.integer(name)
    if value is not None and value < 1:
        raise fields.error(name, "must be at least 1")
    return value


def canonical_json(value: object) -> str:
    """JSON text that does not depend on the order of a client's keys."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
