"""The Anthropic Messages request, read into a protocol-neutral turn."""

from __future__ import annotations

import json

from app.api.anthropic.conversation import BLOCK_SEPARATOR, Conversation
from app.api.anthropic.tool_ids import check_tool_ids
from app.api.anthropic.tools import parse_tool_choice, parse_tools
from app.api.draft import Thinking, TurnDraft, max_tokens_of, sampling_of
from app.api.fields import Fields
from engine.messages import Message, Role

BILLING_PREFIX = "x-anthropic-billing-header"
"""Claude Code's first system block: it differs between conversations and tells a model nothing."""


def parse_messages(body: Fields) -> TurnDraft:
    """Reads ``POST /v1/messages``, and ``count_tokens``, which has the same fields.

    Raises:
        InvalidRequestError: A field is missing or wrong; the error names it.
    """
    tools = parse_tools(body)
    conversation = Conversation(tools)
    turns = [turn for fields in body.children("messages") for turn in conversation.read(fields)]
    if not turns:
        raise body.error("messages", "at least one message is required")
    check_tool_ids(body)
    system = _system_text(body)
    prompt = [Message(role=Role.SYSTEM, text=system)] if system else []
    return TurnDraft(
        model=body.text("model") or "",
        messages=(*prompt, *turns),
        tools=tools,
        sampling=sampling_of(body, body.texts("stop_sequences")),
        max_tokens=max_tokens_of(body, "max_tokens", least=0),
        stream=body.flag("stream"),
        tool_choice=parse_tool_choice(body, tools),
        response_schema_json=_response_schema(body),
        thinking=_thinking(body),
    )


def _system_text(body: Fields) -> str:
    if isinstance(body.get("system"), str):
        return body.required_text("system")
    blocks = [block.required_text("text") for block in body.children("system")]
    return BLOCK_SEPARATOR.join(text for text in blocks if not text.startswith(BILLING_PREFIX))


def _thinking(body: Fields) -> Thinking:
    thinking = body.child("thinking")
    kind = "disabled" if thinking is None else thinking.required_text("type")
    if thinking is None or kind == "disabled":
        return Thinking.OFF
    if kind not in ("enabled", "adaptive"):
        raise thinking.error("type", "must be enabled, adaptive or disabled")
    return Thinking.OMITTED if thinking.text("display") == "omitted" else Thinking.SHOWN


def _response_schema(body: Fields) -> str | None:
    """The schema of the reply, in either of the places where clients put it."""
    config = body.child("output_config")
    output_format = config.child("format") if config is not None else None
    output_format = output_format or body.child("output_format")
    if output_format is None:
        return None
    if output_format.required_text("type") != "json_schema":
        raise output_format.error("type", "must be json_schema")
    schema = output_format.child("schema")
    if schema is None:
        raise output_format.error("schema", "field required")
    # Not sorted: the reply has its fields in the order of the schema.
    return json.dumps(schema.values, ensure_ascii=False)
