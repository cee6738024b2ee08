"""Replies and events held against the official SDKs' models, strictly.

The SDKs themselves take whatever comes; here a missing field, an unknown type or a wrong literal
is an error, and so is a field that neither the SDK nor our documentation knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from anthropic.types import Message, MessageTokensCount, ModelInfo, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseErrorEvent,
    ResponseItem,
    ResponseStreamEvent,
)
from pydantic import BaseModel, TypeAdapter

from engine.errors import EngineFailedError, PoolExhaustedError
from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, Script

USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CALLS = (
    "Let me see.\n",
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    '\n<tool_call>\n{"name": "get_time", "arguments": {"city": "Rome"}}\n</tool_call>',
)
NAMES = ("get_weather", "get_time")
SCRIPTS = {
    "text": Script(),
    "calls": Script(words=CALLS),
    "reasoning": Script(words=("<think>", "It is easy.", "</think>\n\n", "Paris.")),
    "reasoning and calls": Script(words=("<think>Hm.</think>\n\n", *CALLS)),
    "nothing": Script(words=()),
    "failed": Script(fail_at=1, error=EngineFailedError("the device is gone")),
    "refused": Script(refuse=PoolExhaustedError("no room", retry_after_s=3.0)),
    "aborted": Script(abort_at=1),
}
ANTHROPIC: dict[str, Any] = {
    "model": "",
    "max_tokens": 99,
    "messages": [USER],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "tools": [{"name": name, "input_schema": SCHEMA} for name in NAMES],
}
FUNCTIONS = [{"name": name, "parameters": SCHEMA} for name in NAMES]
CHAT: dict[str, Any] = {
    "model": "",
    "messages": [USER],
    "tools": [{"type": "function", "function": function} for function in FUNCTIONS],
    "logprobs": True,
    "top_logprobs": 2,
}
LEGACY: dict[str, Any] = {"model": "", "prompt": "hi", "logprobs": 2}
RESPONSES: dict[str, Any] = {
    "model": "",
    "input": "hi",
    "instructions": "Be brief.",
    "metadata": {"a": "b"},
    "tools": [{"type": "function", **function} for function in FUNCTIONS],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut": {"max_tokens": 1, "max_output_tokens": 1},
    "stopped": {"stop": ["the"], "stop_sequences": ["the"]},
    "with probabilities": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
}
OURS = {
    "reasoning_content",  # what a model thinks aloud, as other servers name it
    "bytes",
    "cache_write_tokens",
    "max_model_len",
    "name",
    "namespace",
    "store",
}
"""Fields in the vendors' shapes that the SDKs do not know, and docs/http.md does."""


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def assert_official(body: Any, shape: Any) -> None:
    """A body is what the SDK's model says, in every field, and nothing else."""
    parsed = _adapter(shape).validate_json(json.dumps(body), strict=True)
    assert set(_extras(parsed)) <= OURS, body


def _extras(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from value.model_extra or {}
        for each in value.__dict__.values():
            yield from _extras(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _extras(each)


def events_of(text: str) -> list[tuple[str, str]]:
    """Names and data of a stream of server-sent events; comments are left out."""
    events = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":")
        if fields:
            assert set(fields) <= {"event", "data"}, block
            events.append((fields.get("event", ""), fields["data"]))
    return events


def assert_anthropic_error(body: Any) -> None:
    assert_official(body, ErrorResponse)


def assert_openai_error(body: Any) -> None:
    """The shape of OpenAI's description, which the SDK reads field by field."""
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    assert isinstance(body["error"]["type"], str)


SCRIPT = pytest.mark.parametrize("script", SCRIPTS)
VARIANT = pytest.mark.parametrize("variant", VARIANTS)


@SCRIPT
@VARIANT
def test_messages(served: Served, script: str, variant: str) -> None:
    served.engine.script = SCRIPTS[script]
    body = ANTHROPIC | VARIANTS[variant]
    reply = served.http.post("/v1/messages", json=body)
    if reply.is_success:
        assert_official(reply.json(), Message)
    else:
        assert_anthropic_error(reply.json())
    stream = served.http.post("/v1/messages", json=body | {"stream": True})
    if not stream.is_success:
        assert_anthropic_error(stream.json())
        return
    for name, data in events_of(stream.text):
        event = json.loads(data)
        assert event["type"] == name
        if name == "error":
            assert_anthropic_error(event)
        elif name == "ping":
            assert event == {"type": "ping"}
        else:
            assert_official(event, RawMessageStreamEvent)


@SCRIPT
@VARIANT
@pytest.mark.parametrize(
    ("path", "base", "whole", "piece"),
    [
        ("/v1/chat/completions", CHAT, ChatCompletion, ChatCompletionChunk),
        ("/v1/completions", LEGACY, Completion, Completion),
    ],
)
def test_completions(
    served: Served,
    script: str,
    variant: str,
    path: str,
    base: dict[str, Any],
    whole: Any,
    piece: Any,
) -> None:
    served.engine.script = SCRIPTS[script]
    body = base | VARIANTS[variant]
    reply = served.http.post(path, json=body)
    if reply.is_success:
        assert_official(reply.json(), whole)
    else:
        assert_openai_error(reply.json())
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    stream = served.http.post(path, json=body | streamed)
    if not stream.is_success:
        assert_openai_error(stream.json())
        return
    *events, (_, end) = events_of(stream.text)
    assert end == "[DONE]"
    for name, data in events:
        assert name == ""
        event = json.loads(data)
        if "error" in event:
            assert_openai_error(event)
            continue
        if piece is Completion:  # OpenAI's own stream has null here, though its SDK does not say so
            for choice in event["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        assert_official(event, piece)


@SCRIPT
@VARIANT
def test_responses(served: Served, script: str, variant: str) -> None:
    served.engine.script = SCRIPTS[script]
    body = RESPONSES | VARIANTS[variant]
    reply = served.http.post("/v1/responses", json=body)
    if reply.is_success:
        assert_official(reply.json(), Response)
        kept = served.http.get(f"/v1/responses/{reply.json()['id']}")
        assert_official(kept.json(), Response)
    else:
        assert_openai_error(reply.json())
    stream = served.http.post("/v1/responses", json=body | {"stream": True})
    if not stream.is_success:
        assert_openai_error(stream.json())
        return
    for name, data in events_of(stream.text):
        event = json.loads(data)
        assert event["type"] == name
        assert_official(event, ResponseErrorEvent if name == "error" else ResponseStreamEvent)


def test_what_a_response_was_made_from(served: Served) -> None:
    served.engine.script = SCRIPTS["reasoning and calls"]
    first = served.http.post("/v1/responses", json=RESPONSES).json()
    calls = [item for item in first["output"] if item["type"] == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        for call in calls
    ]
    body = RESPONSES | {"input": results, "previous_response_id": first["id"]}
    second = served.http.post("/v1/responses", json=body).json()
    page = served.http.get(f"/v1/responses/{second['id']}/input_items").json()
    assert page["object"] == "list"
    assert len(page["data"]) >= len(results)
    for item in page["data"]:
        assert_official(item, ResponseItem)


def test_models_and_counts(served: Served) -> None:
    page = served.http.get("/v1/models").json()
    for model in [*page["data"], served.http.get(f"/v1/models/{MODEL_ID}").json()]:
        assert_official(model, Model)
    version = {"anthropic-version": "2023-06-01"}
    page = served.http.get("/v1/models", headers=version).json()
    one = served.http.get(f"/v1/models/{MODEL_ID}", headers=version).json()
    for model in [*page["data"], one]:
        assert_official(model, ModelInfo)
    count = served.http.post("/v1/messages/count_tokens", json=ANTHROPIC).json()
    assert_official(count, MessageTokensCount)
