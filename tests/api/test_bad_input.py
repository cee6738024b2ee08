from __future__ import annotations

import json
from typing import Any

import pytest

from engine.messages import RenderedPrompt
from tests.api.byte_chat_format import ByteChatFormat
from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID

ANTHROPIC = "/v1/messages"
OPENAI = "/v1/chat/completions"
RESPONSES = "/v1/responses"
COMPLETIONS = "/v1/completions"
JSON = {"content-type": "application/json"}
USER = {"role": "user", "content": "hi"}

RAW: dict[str, bytes] = {
    "nothing": b"",
    "no json": b"{",
    "no object": b"[1]",
    "text": b'"hi"',
    "bad utf-8": b'{"model": "\xff"}',
    "nan": b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
    "infinity": b'{"messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}',
    "lone surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "deep list": b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "deep object": b'{"messages": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "deep and open": b"[" * 100_000,
    "nan in a schema": b'{"messages": [{"role": "user", "content": "hi"}],'
    b' "tools": [{"name": "x", "input_schema": {"maximum": NaN}}]}',
    "digits": b'{"messages": [{"role": "user", "content": "hi"}], "top_k": ' + b"9" * 9000 + b"}",
}

FIELDS: dict[str, dict[str, Any]] = {
    "messages": {"messages": []},
    "messages ": {"messages": "hi"},
    "messages.0": {"messages": ["hi"]},
    "messages.0.role": {"messages": [{"role": "wizard", "content": "hi"}]},
    "messages.0.role ": {"messages": [{"content": "hi"}]},
    "messages.0.role  ": {"messages": [{"role": 5, "content": "hi"}]},
    "messages.1.content": {"messages": [USER, {"role": "user", "content": 5}]},
    "messages.0.content": {"messages": [{"role": "user"}]},
    "messages.0.content.0": {"messages": [{"role": "user", "content": ["hi"]}]},
    "messages.0.content.0.type": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]},
    "messages.0.content.0.type ": {"messages": [{"role": "user", "content": [{"type": "odd"}]}]},
    "messages.0.content.0.text": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]
    },
    "model": {"model": 5},
    "model ": {"model": ["x"]},
    "max_tokens": {"max_tokens": "many"},
    "max_tokens  ": {"max_tokens": -1},
    "max_tokens   ": {"max_tokens": 1.5},
    "max_tokens    ": {"max_tokens": True},
    "temperature": {"temperature": "hot"},
    "temperature ": {"temperature": -1},
    "temperature  ": {"temperature": 10**300},
    "top_p": {"top_p": 1.5},
    "top_k": {"top_k": 10**30},
    "top_k ": {"top_k": []},
    "seed": {"seed": 10**30},
    "stream": {"stream": "yes"},
    "tools": {"tools": {}},
    "tools.0": {"tools": [[]]},
}


def error_of(reply: Any, dialect: str) -> dict[str, Any]:
    body = reply.json()
    if dialect == ANTHROPIC:
        assert body["type"] == "error"
        assert body["request_id"] == reply.headers["request-id"]
        assert set(body["error"]) == {"type", "message"}
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


def assert_still_serves(served: Served) -> None:
    body = {"model": MODEL_ID, "max_tokens": 9, "messages": [USER]}
    assert served.http.post(ANTHROPIC, json=body).status_code == 200


@pytest.mark.parametrize(
    "route", [ANTHROPIC, f"{ANTHROPIC}/count_tokens", OPENAI, RESPONSES, COMPLETIONS]
)
def test_bodies_that_are_no_request(served: Served, route: str) -> None:
    dialect = ANTHROPIC if route.startswith(ANTHROPIC) else OPENAI
    for name, body in RAW.items():
        reply = served.http.post(route, content=body, headers=JSON)
        assert reply.status_code == 400, (name, reply.text)
        error = error_of(reply, dialect)
        assert error["type"] == "invalid_request_error"
        assert len(error["message"]) < 300, name
    assert_still_serves(served)


@pytest.mark.parametrize("route", [ANTHROPIC, f"{ANTHROPIC}/count_tokens", OPENAI])
def test_wrong_fields_are_named(served: Served, route: str) -> None:
    dialect = OPENAI if route == OPENAI else ANTHROPIC
    for name, fields in FIELDS.items():
        body = {"model": MODEL_ID, "max_tokens": 9, "messages": [USER], **fields}
        reply = served.http.post(route, content=json.dumps(body).encode(), headers=JSON)
        assert reply.status_code == 400, (name, reply.text)
        error = error_of(reply, dialect)
        assert error["type"] == "invalid_request_error"
        assert error["message"].startswith(name.strip()), (name, error)
    assert served.engine.requests == []
    assert_still_serves(served)


@pytest.mark.parametrize(
    ("route", "fields", "name"),
    [
        (ANTHROPIC, {"system": 5}, "system"),
        (ANTHROPIC, {"system": [{"type": "text"}]}, "system.0.text"),
        (ANTHROPIC, {"stop_sequences": ["a", 5]}, "stop_sequences.1"),
        (ANTHROPIC, {"metadata": "me"}, "metadata"),
        (ANTHROPIC, {"tools": [{"input_schema": {}}]}, "tools.0.name"),
        (ANTHROPIC, {"tools": [{"name": "x", "input_schema": 5}]}, "tools.0.input_schema"),
        (
            ANTHROPIC,
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "messages.0.content.0.tool_use_id",
        ),
        (ANTHROPIC, {"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        (OPENAI, {"n": 0}, "n"),
        (OPENAI, {"n": 9}, "n"),
        (OPENAI, {"top_logprobs": 3}, "top_logprobs"),
        (OPENAI, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (OPENAI, {"logit_bias": {"x": 1}}, "logit_bias"),
        (OPENAI, {"logit_bias": {"5": "x"}}, "logit_bias.5"),
        (OPENAI, {"logit_bias": {"5": 101}}, "logit_bias of token 5"),
        (OPENAI, {"functions": []}, "functions"),
        (OPENAI, {"tools": [{"type": "function", "function": {"name": "x"}}] * 2}, "tools"),
        (OPENAI, {"tool_choice": "required"}, "tool_choice"),
        (OPENAI, {"tool_choice": "perhaps"}, "tool_choice"),
        (OPENAI, {"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        (
            OPENAI,
            {"tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
        ),
        (OPENAI, {"response_format": {"type": "xml"}}, "response_format.type"),
        (OPENAI, {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            OPENAI,
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        (ANTHROPIC, {"tools": [{"name": "x y"}]}, "tools.0.name"),
        (ANTHROPIC, {"tools": [{"name": "x"}, {"name": "x"}]}, "tools.1.name"),
        (ANTHROPIC, {"tool_choice": {}}, "tool_choice.type"),
        (ANTHROPIC, {"tool_choice": {"type": "must"}}, "tool_choice.type"),
        (ANTHROPIC, {"tool_choice": {"type": "any"}}, "tool_choice.type"),
        (ANTHROPIC, {"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        (
            ANTHROPIC,
            {"tools": [{"name": "x"}], "tool_choice": {"type": "tool", "name": "y"}},
            "tool_choice.name",
        ),
        (
            ANTHROPIC,
            {"tools": [{"name": "x"}], "tool_choice": {"type": "any", "name": 5}},
            "tool_choice.name",
        ),
        (ANTHROPIC, {"thinking": {"type": "deep"}}, "thinking.type"),
        (ANTHROPIC, {"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        (
            ANTHROPIC,
            {"output_config": {"format": {"type": "json_schema"}}},
            "output_config.format.schema",
        ),
        (ANTHROPIC, {"output_format": {"schema": {}}}, "output_format.type"),
        (OPENAI, {"max_tokens": 0}, "max_tokens"),
        (OPENAI, {"stop": [5]}, "stop.0"),
        (OPENAI, {"stop": ["a"] * 17}, "at most 16 stop strings"),
        (OPENAI, {"stop": [""]}, "a stop string must not be empty"),
        (OPENAI, {"stream_options": []}, "stream_options"),
        (OPENAI, {"user": 5}, "user"),
        (OPENAI, {"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        (
            OPENAI,
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]},
            "messages.0.tool_calls.0.function",
        ),
    ],
)
def test_wrong_fields_of_one_protocol(
    served: Served, route: str, fields: dict[str, Any], name: str
) -> None:
    body = {"model": MODEL_ID, "max_tokens": 9, "messages": [USER], **fields}
    reply = served.http.post(route, json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["message"].startswith(name)


@pytest.mark.parametrize("route", [ANTHROPIC, OPENAI])
def test_odd_but_right_requests_are_served(served: Served, route: str) -> None:
    for fields in (
        {"messages": [{"role": "user", "content": "a\x00b\x1b[2J\u202e"}]},
        {"max_tokens": 10**300},
        {"max_tokens": 5.0},
        {"model": None},
        {"temperature": None, "stop": None, "tools": None, "metadata": None},
        {"model": "../../etc/passwd\x00\n"},
        {"messages": [USER, {"role": "assistant", "content": "Par"}]},
    ):
        body = {"model": MODEL_ID, "max_tokens": 9, "messages": [USER], **fields}
        reply = served.http.post(route, content=json.dumps(body).encode(), headers=JSON)
        assert reply.status_code == 200, (fields, reply.text)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/messages/nix", 404, "not_found_error"),
        ("GET", "/v1/chat/completions", 405, "invalid_request_error"),
        ("GET", "/v1/responses", 405, "invalid_request_error"),
        ("POST", "/v1/responses/nix", 405, "invalid_request_error"),
        ("DELETE", "/", 405, "invalid_request_error"),
    ],
)
def test_wrong_paths_and_methods(
    served: Served, method: str, path: str, status: int, kind: str
) -> None:
    reply = served.http.request(method, path)
    assert reply.status_code == status
    error = error_of(reply, ANTHROPIC if path.startswith(ANTHROPIC) else OPENAI)
    assert error["type"] == kind
    if status == 405:
        assert reply.headers["allow"]


def test_a_fault_of_the_server_names_the_request_and_nothing_else(served: Served) -> None:

    class Broken(ByteChatFormat):
        def render_chat(
            self, messages: object, tools: object = (), *, namespace: str = ""
        ) -> RenderedPrompt:
            raise RuntimeError("a secret path")

    served.engine.chat_format = Broken()
    for route in (ANTHROPIC, OPENAI):
        body = {"model": MODEL_ID, "max_tokens": 9, "messages": [USER]}
        reply = served.http.post(route, json=body)
        assert reply.status_code == 500
        error = error_of(reply, route)
        assert error["type"] == ("api_error" if route == ANTHROPIC else "server_error")
        assert reply.headers["request-id"] in error["message"]
        assert "secret" not in reply.text
