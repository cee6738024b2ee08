"""The schemas that requests and replies are described with, and what they are made of."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from engine.cache.quantisation import KV_BITS
from engine.model_commands import MAX_DRAIN_S
from engine.snapshot import SwapParts
from engine.turn_limits import MAX_BATCH_WINDOW_MS, MAX_PRIORITY, MIN_PRIORITY

Schema = dict[str, Any]


def object_of(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object with these properties, and any others."""
    schema: Schema = {"type": "object", "properties": properties}
    return schema | ({"required": list(required)} if required else {})


def list_of(items: Schema) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    """Such a value, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
ANY_OBJECT: Schema = {"type": "object"}
AGENT_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
BLOCK = object_of(("type",), type=TEXT)
CONTENT: Schema = {"anyOf": [TEXT, list_of(BLOCK)]}
SAMPLING: dict[str, Schema] = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 5},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "top_k": {"type": "integer", "minimum": -1, "maximum": 1_000_000},
    "min_p": {"type": "number", "minimum": 0, "maximum": 1},
    "repetition_penalty": {"type": "number", "minimum": 0.01, "maximum": 10},
    "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "seed": {"type": "integer"},
}
STOP: Schema = {"anyOf": [TEXT, {**list_of({"type": "string", "minLength": 1}), "maxItems": 16}]}

ANTHROPIC_TOOL = object_of(
    ("name",), name=TEXT, description=TEXT, input_schema=ANY_OBJECT, type=TEXT
)
ANTHROPIC_FIELDS: dict[str, Schema] = {
    "model": TEXT,
    "system": CONTENT,
    "tools": list_of(ANTHROPIC_TOOL),
    "tool_choice": object_of(("type",), type={"enum": ["auto", "any", "tool", "none"]}, name=TEXT),
    "max_tokens": COUNT,
    "stop_sequences": STOP,
    "stream": FLAG,
    "thinking": object_of(("type",), type={"enum": ["enabled", "adaptive", "disabled"]}),
    "output_config": ANY_OBJECT,
    "metadata": object_of(user_id=TEXT),
    **SAMPLING,
}
ANTHROPIC_MESSAGE = object_of(
    ("role", "content"), role={"enum": ["user", "assistant", "system"]}, content=CONTENT
)
ANTHROPIC_MESSAGES: Schema = {**list_of(ANTHROPIC_MESSAGE), "minItems": 1}
MESSAGE_REPLY = object_of(
    ("id", "type", "role", "model", "content", "stop_reason", "usage"),
    id=TEXT,
    type={"const": "message"},
    role={"const": "assistant"},
    model=TEXT,
    content=list_of(BLOCK),
    stop_reason={"enum": ["end_turn", "stop_sequence", "max_tokens", "tool_use"]},
    stop_sequence=maybe(TEXT),
    usage=object_of(
        ("input_tokens", "output_tokens"),
        input_tokens=COUNT,
        cache_creation_input_tokens=COUNT,
        cache_read_input_tokens=COUNT,
        output_tokens=COUNT,
    ),
)
OPENAI_TOOL = object_of(("type",), type=TEXT, function=ANY_OBJECT)
OPENAI_FIELDS: dict[str, Schema] = {
    "model": TEXT,
    "stream": FLAG,
    "stream_options": object_of(include_usage=FLAG),
    "stop": STOP,
    "n": {"type": "integer", "minimum": 1},
    "max_tokens": COUNT,
    "user": TEXT,
    **SAMPLING,
}
OPENAI_USAGE = object_of(
    ("prompt_tokens", "completion_tokens", "total_tokens"),
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
    prompt_tokens_details=object_of(cached_tokens=COUNT),
)
CHAT_REPLY = object_of(
    ("id", "object", "created", "model", "choices", "usage"),
    id=TEXT,
    object={"enum": ["chat.completion", "text_completion"]},
    created=COUNT,
    model=TEXT,
    choices=list_of(ANY_OBJECT),
    usage=OPENAI_USAGE,
)
RESPONSE = object_of(
    ("id", "object", "status", "output"),
    id=TEXT,
    object={"const": "response"},
    status=TEXT,
    output=list_of(ANY_OBJECT),
)
AGENT = object_of(
    ("agent_id", "status", "pinned"),
    agent_id=AGENT_ID,
    status=TEXT,
    pinned=FLAG,
    num_context_tokens=COUNT,
    hit_ratio=maybe(NUMBER),
    miss=ANY_OBJECT,
)
LIST = object_of(("data",), data=list_of(ANY_OBJECT))
HEALTH = object_of(
    ("status",),
    status=TEXT,
    text=TEXT,
    progress=NUMBER,
    model=TEXT,
    to_model=maybe(TEXT),
    eta_s=maybe(NUMBER),
)
GREETING = object_of(("name", "version"), name={"const": "stoker"}, version=TEXT)
PINNED = object_of(("agent_id", "pinned"), agent_id=AGENT_ID, pinned=FLAG)
PAUSED = object_of(("agent_id", "paused"), agent_id=AGENT_ID, paused=FLAG)
PRIORITY = {"type": "integer", "minimum": MIN_PRIORITY, "maximum": MAX_PRIORITY}
WINDOW_MS = {"type": "number", "minimum": 0, "maximum": MAX_BATCH_WINDOW_MS}
DRAIN_S = {"type": "number", "minimum": 0, "maximum": MAX_DRAIN_S}
BITS: Schema = {"type": "integer", "enum": [0, *KV_BITS]}
SWAP_PARTS: Schema = {
    "type": "object",
    "properties": {each.name: NUMBER for each in fields(SwapParts)},
}
CHOICE = object_of(
    ("model_id", "is_active", "agents"),
    model_id=TEXT,
    origin=TEXT,
    architecture=TEXT,
    num_bits=COUNT,
    size_bytes=COUNT,
    max_context_tokens=COUNT,
    cache_bytes_per_1k_tokens=maybe(COUNT),
    kv_format=TEXT,
    fits=maybe(FLAG),
    refusal=TEXT,
    verdict=TEXT,
    is_active=FLAG,
    load_s=maybe(NUMBER),
    agents=list_of(
        object_of(
            ("agent_id", "num_tokens", "num_warm_tokens"),
            agent_id=AGENT_ID,
            namespace=TEXT,
            num_tokens=COUNT,
            num_warm_tokens=COUNT,
            prefill_s=maybe(NUMBER),
        )
    ),
)


ANTHROPIC_ERROR = object_of(
    ("type", "error", "request_id"),
    type={"const": "error"},
    error=object_of(("type", "message"), type=TEXT, message=TEXT),
    request_id=TEXT,
)
OPENAI_ERROR = object_of(
    ("error",),
    error=object_of(
        ("message", "type", "param", "code"),
        message=TEXT,
        type=TEXT,
        param=maybe(TEXT),
        code=maybe(TEXT),
    ),
)
