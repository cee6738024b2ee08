"""One turn as a client asked for it, neutral of the protocol it came by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.api.fields import Fields
from engine.constraint import Constraint
from engine.messages import ChatFormat, Message, RenderedPrompt, Role, ToolChoice, ToolSpec
from engine.pieces import ReplyReader
from engine.request import SamplingParams

NO_IMAGES = "this model does not see images"
"""What is said to a client that sends one."""

AS_THE_MODEL_LIKES = ToolChoice()
"""What holds where a client says nothing of the tools it offers."""


class Thinking(StrEnum):
    """What a client wants to see of the model's reasoning."""

    OFF = "off"
    """Nothing."""
    OMITTED = "omitted"
    """That there was some, and where."""
    SHOWN = "shown"
    """All of it."""


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
        agent_id: Who the client says it is; None when it does not say.
        tool_choice: Whether the reply may, must or must not call a tool.
        response_schema_json: JSON schema that the text of the reply has to fit; None for any text.
        thinking: What the client wants to see of the model's reasoning.
        any_object: Whether the text of the reply has to be a JSON object, whatever is in it.
        is_copy: Whether it is one of several replies, and its agent goes with it.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    sampling: SamplingParams
    max_tokens: int | None
    stream: bool
    agent_id: str | None = None
    tool_choice: ToolChoice = AS_THE_MODEL_LIKES
    response_schema_json: str | None = None
    any_object: bool = False
    thinking: Thinking = Thinking.OFF
    is_copy: bool = False

    @property
    def num_chars_to_read(self) -> int:
        """How much text the prompt is made of, with what is not in the request itself."""
        calls = (call for message in self.messages for call in message.tool_calls)
        num_in_calls = sum(len(call.arguments_json) for call in calls)
        return num_in_calls + sum(len(message.text) for message in self.messages)

    @property
    def is_held_to_a_form(self) -> bool:
        """Whether there may be a grammar to compile, which may take seconds."""
        return bool(self.tools or self.any_object or self.response_schema_json is not None)

    def render(self, chat_format: ChatFormat, namespace: str) -> tuple[RenderedPrompt, ...]:
        """What the model reads: one prompt for each reply that goes on from another text.

        Args:
            chat_format: The text side of the model.
            namespace: Whose earlier replies may be recognised.

        Raises:
            InvalidRequestError: The model's template refuses the conversation.
        """
        return (chat_format.render_chat(self.messages, self.tools, namespace=namespace),)

    def constraint(self, chat_format: ChatFormat, prompt: RenderedPrompt) -> Constraint | None:
        """What every reply has to fit.

        Args:
            chat_format: The text side of the model.
            prompt: One of the prompts; all end in the same way.

        Raises:
            InvalidRequestError: It cannot be enforced; the message says what of it.
        """
        return chat_format.constrain(
            self.tools,
            self.tool_choice,
            self.response_schema_json,
            any_object=self.any_object,
            opens_reasoning=prompt.opens_reasoning,
        )

    def reader(self, chat_format: ChatFormat, prompt: RenderedPrompt) -> ReplyReader:
        """What takes the reply to one of the prompts apart."""
        return chat_format.reply_reader(
            self.tools, self.tool_choice, opens_reasoning=prompt.opens_reasoning
        )

    @property
    def agent_hint(self) -> str:
        """Name prefix for an agent that only its tools and system prompt tell apart."""
        if not self.tools and [m.role for m in self.messages[:1]] != [Role.SYSTEM]:
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


def max_tokens_of(fields: Fields, name: str, *, least: int = 1) -> int | None:
    """The client's bound of generated tokens; far too large a bound is fine, it is clamped.

    Raises:
        FieldError: It is no integer, or too small.
    """
    value = fields.integer(name)
    if value is not None and value < least:
        raise fields.error(name, f"must be at least {least}")
    return value


def canonical_json(value: object) -> str:
    """JSON text that does not depend on the order of a client's keys."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
