"""The shapes of requests and replies, for the interface's description.

Bodies are read by hand, field by field (``fields.py``), and unknown fields are ignored, so a shape
names what is read and leaves the rest open. To describe a new route, add a row to ``SHAPES``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from app.api.schemas import (
    AGENT,
    AGENT_ID,
    ANTHROPIC_FIELDS,
    ANTHROPIC_MESSAGE,
    ANTHROPIC_MESSAGES,
    ANTHROPIC_TOOL,
    ANY_OBJECT,
    BITS,
    CHAT_REPLY,
    CHOICE,
    CONTENT,
    COUNT,
    DRAIN_S,
    FLAG,
    GREETING,
    HEALTH,
    LIST,
    MESSAGE_REPLY,
    NUMBER,
    OPENAI_FIELDS,
    OPENAI_TOOL,
    PAUSED,
    PINNED,
    PRIORITY,
    RESPONSE,
    SAMPLING,
    SWAP_PARTS,
    TEXT,
    WINDOW_MS,
    Schema,
    list_of,
    maybe,
    object_of,
)


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


AN_AGENT = "/v1/agents/{agent_id}"

SHAPES: dict[tuple[str, str], Shape] = {
    ("post", "/v1/messages"): Shape(
        body=object_of(("messages",), messages=ANTHROPIC_MESSAGES, **ANTHROPIC_FIELDS),
        reply=MESSAGE_REPLY,
        streams=True,
    ),
    ("post", "/v1/messages/count_tokens"): Shape(
        body=object_of(("messages",), messages=ANTHROPIC_MESSAGES, **ANTHROPIC_FIELDS),
        reply=object_of(("input_tokens",), input_tokens=COUNT),
    ),
    ("post", "/v1/chat/completions"): Shape(
        body=object_of(
            ("messages",),
            messages={
                **list_of(object_of(("role",), role=TEXT, content=maybe(CONTENT))),
                "minItems": 1,
            },
            tools=list_of(OPENAI_TOOL),
            tool_choice={"anyOf": [TEXT, ANY_OBJECT]},
            response_format=object_of(("type",), type=TEXT),
            max_completion_tokens=COUNT,
            logprobs=FLAG,
            top_logprobs=COUNT,
            **OPENAI_FIELDS,
        ),
        reply=CHAT_REPLY,
        streams=True,
    ),
    ("post", "/v1/completions"): Shape(
        body=object_of(
            ("prompt",),
            prompt={"anyOf": [TEXT, list_of(TEXT), list_of(COUNT), list_of(list_of(COUNT))]},
            echo=FLAG,
            suffix=TEXT,
            logprobs=COUNT,
            best_of={"type": "integer", "minimum": 1},
            **OPENAI_FIELDS,
        ),
        reply=CHAT_REPLY,
        streams=True,
    ),
    ("post", "/v1/responses"): Shape(
        body=object_of(
            ("input",),
            model=TEXT,
            input={"anyOf": [TEXT, list_of(ANY_OBJECT)]},
            instructions=TEXT,
            tools=list_of(ANY_OBJECT),
            tool_choice={"anyOf": [TEXT, ANY_OBJECT]},
            include=list_of(TEXT),
            top_logprobs=COUNT,
            previous_response_id=TEXT,
            store=FLAG,
            stream=FLAG,
            max_output_tokens={"type": "integer", "minimum": 1},
            temperature=SAMPLING["temperature"],
            top_p=SAMPLING["top_p"],
        ),
        reply=RESPONSE,
        streams=True,
    ),
    ("get", "/v1/responses/{response_id}"): Shape(reply=RESPONSE),
    ("get", "/v1/models"): Shape(reply=LIST),
    ("get", "/v1/models/{model_id}"): Shape(reply=object_of(("id",), id=TEXT)),
    ("get", "/v1/capabilities"): Shape(
        reply=object_of(
            ("name", "version", "status", "dialects", "model", "cache", "limits"),
            name=TEXT,
            version=TEXT,
            status=TEXT,
            dialects=list_of(TEXT),
            model=maybe(ANY_OBJECT),
            cache=ANY_OBJECT,
            limits=ANY_OBJECT,
        )
    ),
    ("post", "/v1/agents"): Shape(
        body=object_of(
            id=AGENT_ID,
            system=CONTENT,
            tools=list_of(ANTHROPIC_TOOL),
            messages=list_of(ANTHROPIC_MESSAGE),
        ),
        needs_body=False,
        reply=object_of(
            ("agent_id", "num_tokens", "num_cached_tokens"),
            agent_id=AGENT_ID,
            num_tokens=COUNT,
            num_cached_tokens=COUNT,
        ),
    ),
    ("get", "/v1/agents"): Shape(reply=object_of(("data",), data=list_of(AGENT))),
    ("get", AN_AGENT): Shape(reply=AGENT),
    ("delete", AN_AGENT): Shape(
        reply=object_of(("agent_id", "freed_bytes"), agent_id=AGENT_ID, freed_bytes=COUNT)
    ),
    ("get", f"{AN_AGENT}/messages"): Shape(
        reply=object_of(("agent_id", "data"), agent_id=AGENT_ID, data=list_of(ANTHROPIC_MESSAGE))
    ),
    ("post", f"{AN_AGENT}/messages"): Shape(
        body=object_of(
            ("content",),
            content=CONTENT,
            **{
                name: schema
                for name, schema in ANTHROPIC_FIELDS.items()
                if name not in ("system", "tools", "metadata")
            },
        ),
        reply=MESSAGE_REPLY,
        streams=True,
    ),
    ("post", f"{AN_AGENT}/evict"): Shape(
        reply=object_of(
            ("agent_id", "freed_bytes", "num_tokens", "num_disk_tokens"),
            agent_id=AGENT_ID,
            freed_bytes=COUNT,
            num_tokens=COUNT,
            num_disk_tokens=COUNT,
        )
    ),
    ("post", f"{AN_AGENT}/warm"): Shape(
        reply=object_of(("agent_id", "num_tokens"), agent_id=AGENT_ID, num_tokens=COUNT)
    ),
    ("post", f"{AN_AGENT}/fork"): Shape(
        body=object_of(id=AGENT_ID, turn={"type": "integer", "minimum": 1}),
        needs_body=False,
        reply=object_of(("agent_id", "forked_from"), agent_id=AGENT_ID, forked_from=AGENT_ID),
    ),
    ("post", f"{AN_AGENT}/pin"): Shape(reply=PINNED),
    ("post", f"{AN_AGENT}/unpin"): Shape(reply=PINNED),
    ("post", f"{AN_AGENT}/pause"): Shape(reply=PAUSED),
    ("post", f"{AN_AGENT}/resume"): Shape(reply=PAUSED),
    ("post", f"{AN_AGENT}/priority"): Shape(
        body=object_of(("priority",), priority=PRIORITY),
        reply=object_of(("agent_id", "priority"), agent_id=AGENT_ID, priority=PRIORITY),
    ),
    ("get", f"{AN_AGENT}/export"): Shape(
        reply={"type": "string", "format": "binary"}, reply_type="application/octet-stream"
    ),
    ("post", "/v1/agents/import"): Shape(
        body={"type": "string", "format": "binary"},
        media_type="application/octet-stream",
        query={"id": AGENT_ID},
        reply=object_of(("agent_id", "num_tokens"), agent_id=AGENT_ID, num_tokens=COUNT),
    ),
    ("get", "/admin/state"): Shape(),
    ("get", "/admin/blocks/{block_id}"): Shape(
        reply=object_of(
            ("block_id", "block_hash", "num_tokens", "is_on_disk", "owners", "num_owners"),
            block_id=COUNT,
            block_hash=TEXT,
            num_tokens=COUNT,
            num_slots=COUNT,
            is_on_disk=FLAG,
            owners=list_of(TEXT),
            num_owners=COUNT,
            idle_s=maybe(NUMBER),
        )
    ),
    ("post", "/admin/batch-window"): Shape(
        body=object_of(("window_ms",), window_ms=WINDOW_MS),
        reply=object_of(("window_ms",), window_ms=WINDOW_MS),
    ),
    ("get", "/admin/models"): Shape(
        query={"kv_bits": BITS}, reply=object_of(("data",), data=list_of(CHOICE))
    ),
    ("post", "/admin/models/swap"): Shape(
        body=object_of(("model",), model=TEXT, drain_s=DRAIN_S, kv_bits=BITS),
        reply=object_of(
            ("from_model", "to_model", "parts"),
            from_model=TEXT,
            to_model=TEXT,
            parts=SWAP_PARTS,
        ),
    ),
    ("get", "/metrics"): Shape(reply=TEXT, reply_type="text/plain"),
    ("get", "/health/live"): Shape(reply=HEALTH),
    ("get", "/health/ready"): Shape(reply=HEALTH),
    ("get", "/health/startup"): Shape(reply=HEALTH),
    ("get", "/"): Shape(reply=GREETING),
    ("get", "/api/hello"): Shape(reply=GREETING),
}
