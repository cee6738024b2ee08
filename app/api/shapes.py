"""The shapes of requests and replies, for the interface's description.

Bodies are read by hand, field by field (``fields.py``), and unknown fields are ignored, so a shape
names what is read and leaves the rest open. To describe a new route, add a row to ``SHAPES``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from engine.cache.quantisation import KV_BITS
from engine.model_commands import MAX_DRAIN_S
from engine.snapshot import SwapParts
from engine.turn_limits import MAX_BATCH_WINDOW_MS, MAX_PRIORITY, MIN_PRIORITY

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One operation.

    Attributes:
        body: Schema of the request; None where it has none.
        needs_body: Whether it has to be there.
        reply: Schema of the reply that is no error.
        media_type: What the request's body is.
        reply_type: What the reply is.
        streams: Whether the reply may be server-sent events instead.
        query: Parameters behind the path: name and schema.
    """

    body: Schema | None = None
    needs_body: bool = True
    reply: Schema = field(default_factory=lambda: {"type": "object"})
    media_type: str = "application/json"
    reply_type: str = "application/json"
    streams: bool = False
    query: dict[str, Schema] = field(default_factory=dict)


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return schema | ({"required": list(required)} if required else {})


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_ANY_OBJECT: Schema = {"type": "object"}
_AGENT_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
_BLOCK = _object(("type",), type=_TEXT)
_CONTENT: Schema = {"anyOf": [_TEXT, _list(_BLOCK)]}
_SAMPLING: dict[str, Schema] = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 5},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "top_k": {"type": "integer", "minimum": -1, "maximum": 1_000_000},
    "min_p": {"type": "number", "minimum": 0, "maximum": 1},
    "repetition_penalty": {"type": "number", "minimum": 0.01, "maximum": 10},
    "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "seed": {"type": "integer"},
}
_STOP: Schema = {"anyOf": [_TEXT, {**_list({"type": "string", "minLength": 1}), "maxItems": 16}]}

_ANTHROPIC_TOOL = _object(
    ("name",), name=_TEXT, description=_TEXT, input_schema=_ANY_OBJECT, type=_TEXT
)
_ANTHROPIC_FIELDS: dict[str, Schema] = {
    "model": _TEXT,
    "system": _CONTENT,
    "tools": _list(_ANTHROPIC_TOOL),
    "tool_choice": _object(("type",), type={"enum": ["auto", "any", "tool", "none"]}, name=_TEXT),
    "max_tokens": _COUNT,
    "stop_sequences": _STOP,
    "stream": _FLAG,
    "thinking": _object(("type",), type={"enum": ["enabled", "adaptive", "disabled"]}),
    "output_config": _ANY_OBJECT,
    "metadata": _object(user_id=_TEXT),
    **_SAMPLING,
}
_ANTHROPIC_MESSAGE = _object(
    ("role", "content"), role={"enum": ["user", "assistant", "system"]}, content=_CONTENT
)
_ANTHROPIC_MESSAGES: Schema = {**_list(_ANTHROPIC_MESSAGE), "minItems": 1}
_MESSAGE_REPLY = _object(
    ("id", "type", "role", "model", "content", "stop_reason", "usage"),
    id=_TEXT,
    type={"const": "message"},
    role={"const": "assistant"},
    model=_TEXT,
    content=_list(_BLOCK),
    stop_reason={"enum": ["end_turn", "stop_sequence", "max_tokens", "tool_use"]},
    stop_sequence=_maybe(_TEXT),
    usage=_object(
        ("input_tokens", "output_tokens"),
        input_tokens=_COUNT,
        cache_creation_input_tokens=_COUNT,
        cache_read_input_tokens=_COUNT,
        output_tokens=_COUNT,
    ),
)
_OPENAI_TOOL = _object(("type",), type=_TEXT, function=_ANY_OBJECT)
_OPENAI_FIELDS: dict[str, Schema] = {
    "model": _TEXT,
    "stream": _FLAG,
    "stream_options": _object(include_usage=_FLAG),
    "stop": _STOP,
    "n": {"type": "integer", "minimum": 1},
    "max_tokens": _COUNT,
    "user": _TEXT,
    **_SAMPLING,
}
_OPENAI_USAGE = _object(
    ("prompt_tokens", "completion_tokens", "total_tokens"),
    prompt_tokens=_COUNT,
    completion_tokens=_COUNT,
    total_tokens=_COUNT,
    prompt_tokens_details=_object(cached_tokens=_COUNT),
)
_CHAT_REPLY = _object(
    ("id", "object", "created", "model", "choices", "usage"),
    id=_TEXT,
    object={"enum": ["chat.completion", "text_completion"]},
    created=_COUNT,
    model=_TEXT,
    choices=_list(_ANY_OBJECT),
    usage=_OPENAI_USAGE,
)
_RESPONSE = _object(
    ("id", "object", "status", "output"),
    id=_TEXT,
    object={"const": "response"},
    status=_TEXT,
    output=_list(_ANY_OBJECT),
)
_AGENT = _object(
    ("agent_id", "status", "pinned"),
    agent_id=_AGENT_ID,
    status=_TEXT,
    pinned=_FLAG,
    num_context_tokens=_COUNT,
    hit_ratio=_maybe(_NUMBER),
    miss=_ANY_OBJECT,
)
_LIST = _object(("data",), data=_list(_ANY_OBJECT))
_HEALTH = _object(
    ("status",),
    status=_TEXT,
    text=_TEXT,
    progress=_NUMBER,
    model=_TEXT,
    to_model=_maybe(_TEXT),
    eta_s=_maybe(_NUMBER),
)
_GREETING = _object(("name", "version"), name={"const": "stoker"}, version=_TEXT)
_PINNED = _object(("agent_id", "pinned"), agent_id=_AGENT_ID, pinned=_FLAG)
_PAUSED = _object(("agent_id", "paused"), agent_id=_AGENT_ID, paused=_FLAG)
_PRIORITY = {"type": "integer", "minimum": MIN_PRIORITY, "maximum": MAX_PRIORITY}
_WINDOW_MS = {"type": "number", "minimum": 0, "maximum": MAX_BATCH_WINDOW_MS}
_DRAIN_S = {"type": "number", "minimum": 0, "maximum": MAX_DRAIN_S}
_KV_BITS: Schema = {"type": "integer", "enum": [0, *KV_BITS]}
_SWAP_PARTS: Schema = {
    "type": "object",
    "properties": {each.name: _NUMBER for each in fields(SwapParts)},
}
_CHOICE = _object(
    ("model_id", "is_active", "agents"),
    model_id=_TEXT,
    origin=_TEXT,
    architecture=_TEXT,
    num_bits=_COUNT,
    size_bytes=_COUNT,
    max_context_tokens=_COUNT,
    cache_bytes_per_1k_tokens=_maybe(_COUNT),
    kv_format=_TEXT,
    fits=_maybe(_FLAG),
    refusal=_TEXT,
    verdict=_TEXT,
    is_active=_FLAG,
    load_s=_maybe(_NUMBER),
    agents=_list(
        _object(
            ("agent_id", "num_tokens", "num_warm_tokens"),
            agent_id=_AGENT_ID,
            namespace=_TEXT,
            num_tokens=_COUNT,
            num_warm_tokens=_COUNT,
            prefill_s=_maybe(_NUMBER),
        )
    ),
)
_AN_AGENT = "/v1/agents/{agent_id}"

SHAPES: dict[tuple[str, str], Shape] = {
    ("post", "/v1/messages"): Shape(
        body=_object(("messages",), messages=_ANTHROPIC_MESSAGES, **_ANTHROPIC_FIELDS),
        reply=_MESSAGE_REPLY,
        streams=True,
    ),
    ("post", "/v1/messages/count_tokens"): Shape(
        body=_object(("messages",), messages=_ANTHROPIC_MESSAGES, **_ANTHROPIC_FIELDS),
        reply=_object(("input_tokens",), input_tokens=_COUNT),
    ),
    ("post", "/v1/chat/completions"): Shape(
        body=_object(
            ("messages",),
            messages={
                **_list(_object(("role",), role=_TEXT, content=_maybe(_CONTENT))),
                "minItems": 1,
            },
            tools=_list(_OPENAI_TOOL),
            tool_choice={"anyOf": [_TEXT, _ANY_OBJECT]},
            response_format=_object(("type",), type=_TEXT),
            max_completion_tokens=_COUNT,
            logprobs=_FLAG,
            top_logprobs=_COUNT,
            **_OPENAI_FIELDS,
        ),
        reply=_CHAT_REPLY,
        streams=True,
    ),
    ("post", "/v1/completions"): Shape(
        body=_object(
            ("prompt",),
            prompt={"anyOf": [_TEXT, _list(_TEXT), _list(_COUNT), _list(_list(_COUNT))]},
            echo=_FLAG,
            suffix=_TEXT,
            logprobs=_COUNT,
            best_of={"type": "integer", "minimum": 1},
            **_OPENAI_FIELDS,
        ),
        reply=_CHAT_REPLY,
        streams=True,
    ),
    ("post", "/v1/responses"): Shape(
        body=_object(
            ("input",),
            model=_TEXT,
            input={"anyOf": [_TEXT, _list(_ANY_OBJECT)]},
            instructions=_TEXT,
            tools=_list(_ANY_OBJECT),
            tool_choice={"anyOf": [_TEXT, _ANY_OBJECT]},
            include=_list(_TEXT),
            top_logprobs=_COUNT,
            previous_response_id=_TEXT,
            store=_FLAG,
            stream=_FLAG,
            max_output_tokens={"type": "integer", "minimum": 1},
            temperature=_SAMPLING["temperature"],
            top_p=_SAMPLING["top_p"],
        ),
        reply=_RESPONSE,
        streams=True,
    ),
    ("get", "/v1/responses/{response_id}"): Shape(reply=_RESPONSE),
    ("get", "/v1/models"): Shape(reply=_LIST),
    ("get", "/v1/models/{model_id}"): Shape(reply=_object(("id",), id=_TEXT)),
    ("get", "/v1/capabilities"): Shape(
        reply=_object(
            ("name", "version", "status", "dialects", "model", "cache", "limits"),
            name=_TEXT,
            version=_TEXT,
            status=_TEXT,
            dialects=_list(_TEXT),
            model=_maybe(_ANY_OBJECT),
            cache=_ANY_OBJECT,
            limits=_ANY_OBJECT,
        )
    ),
    ("post", "/v1/agents"): Shape(
        body=_object(
            id=_AGENT_ID,
            system=_CONTENT,
            tools=_list(_ANTHROPIC_TOOL),
            messages=_list(_ANTHROPIC_MESSAGE),
        ),
        needs_body=False,
        reply=_object(
            ("agent_id", "num_tokens", "num_cached_tokens"),
            agent_id=_AGENT_ID,
            num_tokens=_COUNT,
            num_cached_tokens=_COUNT,
        ),
    ),
    ("get", "/v1/agents"): Shape(reply=_object(("data",), data=_list(_AGENT))),
    ("get", _AN_AGENT): Shape(reply=_AGENT),
    ("delete", _AN_AGENT): Shape(
        reply=_object(("agent_id", "freed_bytes"), agent_id=_AGENT_ID, freed_bytes=_COUNT)
    ),
    ("get", f"{_AN_AGENT}/messages"): Shape(
        reply=_object(("agent_id", "data"), agent_id=_AGENT_ID, data=_list(_ANTHROPIC_MESSAGE))
    ),
    ("post", f"{_AN_AGENT}/messages"): Shape(
        body=_object(
            ("content",),
            content=_CONTENT,
            **{
                name: schema
                for name, schema in _ANTHROPIC_FIELDS.items()
                if name not in ("system", "tools", "metadata")
            },
        ),
        reply=_MESSAGE_REPLY,
        streams=True,
    ),
    ("post", f"{_AN_AGENT}/evict"): Shape(
        reply=_object(
            ("agent_id", "freed_bytes", "num_tokens", "num_disk_tokens"),
            agent_id=_AGENT_ID,
            freed_bytes=_COUNT,
            num_tokens=_COUNT,
            num_disk_tokens=_COUNT,
        )
    ),
    ("post", f"{_AN_AGENT}/warm"): Shape(
        reply=_object(("agent_id", "num_tokens"), agent_id=_AGENT_ID, num_tokens=_COUNT)
    ),
    ("post", f"{_AN_AGENT}/fork"): Shape(
        body=_object(id=_AGENT_ID, turn={"type": "integer", "minimum": 1}),
        needs_body=False,
        reply=_object(("agent_id", "forked_from"), agent_id=_AGENT_ID, forked_from=_AGENT_ID),
    ),
    ("post", f"{_AN_AGENT}/pin"): Shape(reply=_PINNED),
    ("post", f"{_AN_AGENT}/unpin"): Shape(reply=_PINNED),
    ("post", f"{_AN_AGENT}/pause"): Shape(reply=_PAUSED),
    ("post", f"{_AN_AGENT}/resume"): Shape(reply=_PAUSED),
    ("post", f"{_AN_AGENT}/priority"): Shape(
        body=_object(("priority",), priority=_PRIORITY),
        reply=_object(("agent_id", "priority"), agent_id=_AGENT_ID, priority=_PRIORITY),
    ),
    ("get", f"{_AN_AGENT}/export"): Shape(
        reply={"type": "string", "format": "binary"}, reply_type="application/octet-stream"
    ),
    ("post", "/v1/agents/import"): Shape(
        body={"type": "string", "format": "binary"},
        media_type="application/octet-stream",
        query={"id": _AGENT_ID},
        reply=_object(("agent_id", "num_tokens"), agent_id=_AGENT_ID, num_tokens=_COUNT),
    ),
    ("get", "/admin/state"): Shape(),
    ("get", "/admin/blocks/{block_id}"): Shape(
        reply=_object(
            ("block_id", "block_hash", "num_tokens", "is_on_disk", "owners", "num_owners"),
            block_id=_COUNT,
            block_hash=_TEXT,
            num_tokens=_COUNT,
            num_slots=_COUNT,
            is_on_disk=_FLAG,
            owners=_list(_TEXT),
            num_owners=_COUNT,
            idle_s=_maybe(_NUMBER),
        )
    ),
    ("post", "/admin/batch-window"): Shape(
        body=_object(("window_ms",), window_ms=_WINDOW_MS),
        reply=_object(("window_ms",), window_ms=_WINDOW_MS),
    ),
    ("get", "/admin/models"): Shape(
        query={"kv_bits": _KV_BITS}, reply=_object(("data",), data=_list(_CHOICE))
    ),
    ("post", "/admin/models/swap"): Shape(
        body=_object(("model",), model=_TEXT, drain_s=_DRAIN_S, kv_bits=_KV_BITS),
        reply=_object(
            ("from_model", "to_model", "parts"),
            from_model=_TEXT,
            to_model=_TEXT,
            parts=_SWAP_PARTS,
        ),
    ),
    ("get", "/metrics"): Shape(reply=_TEXT, reply_type="text/plain"),
    ("get", "/health/live"): Shape(reply=_HEALTH),
    ("get", "/health/ready"): Shape(reply=_HEALTH),
    ("get", "/health/startup"): Shape(reply=_HEALTH),
    ("get", "/"): Shape(reply=_GREETING),
    ("get", "/api/hello"): Shape(reply=_GREETING),
}

ANTHROPIC_ERROR = _object(
    ("type", "error", "request_id"),
    type={"const": "error"},
    error=_object(("type", "message"), type=_TEXT, message=_TEXT),
    request_id=_TEXT,
)
OPENAI_ERROR = _object(
    ("error",),
    error=_object(
        ("message", "type", "param", "code"),
        message=_TEXT,
        type=_TEXT,
        param=_maybe(_TEXT),
        code=_maybe(_TEXT),
    ),
)
