"""Bad input on every described route: a clear refusal, and a server that goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.settings import ApiSettings
from app.api.shapes import SHAPES
from docs.generate import INTERFACE
from tests.api.conftest import Served, serving
from tests.api.raw_http import exchange, head, post

JSON = {"content-type": "application/json"}
USER = {"role": "user", "content": "hi"}
MAX_GROWTH_BYTES = 300 << 20
POSTS = sorted(path for method, path in SHAPES if method == "post")
JSON_POSTS = [path for path in POSTS if SHAPES["post", path].media_type == "application/json"]
TURNS = ["/v1/messages", "/v1/chat/completions", "/v1/completions", "/v1/responses"]
BASE: dict[str, Any] = {"messages": [USER], "prompt": "hi", "input": "hi", "max_tokens": 9}

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "spaces": b" " * 100_000,
    "no object": b"[]",
    "null": b"null",
    "no utf-8": b'{"a": "\xff\xfe"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "NaN": b'{"temperature": NaN}',
    "infinity": b'{"temperature": -Infinity}',
    "lone surrogate": b'{"content": "\\udfff"}',
    "deep list": b'{"content": ' + b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "two values": b'{"a": 1}{"a": 2}',
    "many digits": b'{"max_tokens": ' + b"9" * 100_000 + b"}",
    "many fields": json.dumps({str(n): n for n in range(100_000)}).encode(),
    "same field": b'{"messages": [], "messages": 5, "prompt": 5, "input": 5, "content": 5}',
    "nul": b"\x00",
}

RECURSIVE: dict[str, Any] = {
    "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    "$ref": "#/$defs/a",
}
DEEP: dict[str, Any] = {}
for _ in range(100):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
HOSTILE = {"type": "string", "pattern": "^(a+)+$|((a*)*)*b" + "(x?){1000}" * 20}


def _function(schema: Any) -> dict[str, Any]:
    function = {"name": "f", "parameters": schema}
    tool = {"type": "function", "function": function, "name": "f", "parameters": schema}
    return {"tools": [tool], "tool_choice": "required"}


def _schema(schema: Any) -> dict[str, Any]:
    named = {"name": "s", "schema": schema, "strict": True}
    return {
        "response_format": {"type": "json_schema", "json_schema": named},
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
        "text": {"format": {"type": "json_schema", **named}},
    }


def _call(call_id: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    return {"id": call_id, "type": "function", "function": function}


FIELDS: dict[str, dict[str, Any]] = {
    "n huge": {"n": 10**9},
    "n negative": {"n": -1},
    "n text": {"n": "2"},
    "best_of huge": {"best_of": 10**12},
    "top_k huge": {"top_k": 10**18},
    "top_k negative": {"top_k": -(10**18)},
    "logprobs huge": {"logprobs": 10**9, "top_logprobs": 10**9},
    "logprobs text": {"logprobs": "all"},
    "top_logprobs alone": {"top_logprobs": 5},
    "stop many": {"stop": ["x"] * 10_000, "stop_sequences": ["x"] * 10_000},
    "stop long": {"stop": "x" * 1_000_000, "stop_sequences": ["x" * 1_000_000]},
    "stop empty": {"stop": "", "stop_sequences": [""]},
    "stop nested": {"stop": [["x"]], "stop_sequences": [["x"]]},
    "max_tokens huge": {"max_tokens": 10**18, "max_output_tokens": 10**18},
    "max_tokens beyond 64 bits": {"max_tokens": 10**40},
    "max_tokens fraction": {"max_tokens": 1.5},
    "seed beyond 64 bits": {"seed": 10**40},
    "penalties": {"presence_penalty": 1e308, "frequency_penalty": -1e308},
    "logit_bias odd": {"logit_bias": {"x": "y"}},
    "logit_bias many": {"logit_bias": {str(n): 1 for n in range(50_000)}},
    "tool_choice odd": {"tool_choice": 5},
    "tool_choice unknown": {"tool_choice": {"type": "function", "function": {"name": "nix"}}},
    "tools many": {"tools": [{"type": "function", "name": f"f{n}"} for n in range(2_000)]},
    "tool name odd": {"tools": [{"type": "function", "name": "../x\x00"}]},
    "schema recursive": _function(RECURSIVE),
    "schema deep": _function(DEEP),
    "schema of another type": _function([]),
    "reply recursive": _schema(RECURSIVE),
    "reply hostile pattern": _schema({"type": "object", "properties": {"a": HOSTILE}}),
    "reply ref elsewhere": _schema({"$ref": "file:///etc/passwd"}),
    "response_format odd": {"response_format": {"type": "xml"}},
    "orphan result": {"messages": [USER, {"role": "tool", "tool_call_id": "x", "content": "y"}]},
    "two calls of one id": {
        "messages": [USER, {"role": "assistant", "tool_calls": [_call("x"), _call("x")]}, USER]
    },
    "arguments no json": {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{"}}
                ],
            },
            {"role": "tool", "tool_call_id": "x", "content": "y"},
        ]
    },
    "nul and escapes": {"messages": [{"role": "user", "content": "\x00\x1b]0;x\x07\u202e"}]},
    "special tokens": {"messages": [{"role": "user", "content": "<|im_start|>system<|im_end|>"}]},
    "many messages": {"messages": [USER] * 20_000},
    "previous response odd": {"previous_response_id": "../../etc/passwd"},
    "agent odd": {"user": "\x1b[2J", "session_id": "\x00"},
    "prompt nested": {"prompt": [[[1]]]},
    "prompt tokens odd": {"prompt": [-1, 10**12]},
    "input odd": {"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]},
    "model path": {"model": "../../etc/passwd\x00"},
}

IDS = ["../x", "..%2f..%2fetc%2fpasswd", "%00", "%1b[2J", "a" * 5000, "%ff%fe", "%F0%9F%92%A9", "."]


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with serving(settings=ApiSettings(port=0, max_connections=700)) as served:
        yield served


def assert_refused(reply: Any, name: str) -> None:
    assert reply.status_code < 500, (name, reply.status_code, reply.text[:300])
    if reply.status_code >= 400:
        error = reply.json()["error"]
        assert {"type", "message"} <= set(error), name
        assert len(error["message"]) < 500, name
        assert reply.headers["request-id"]


def assert_well(served: Served) -> None:
    assert served.engine.wait_for(lambda: served.engine.running == [])
    body = {"messages": [USER], "max_tokens": 9}
    assert served.http.post("/v1/messages", json=body).status_code == 200


@pytest.mark.parametrize("path", JSON_POSTS)
def test_bodies_that_are_no_request(served: Served, path: str) -> None:
    for name, body in BODIES.items():
        url = path.replace("{agent_id}", "repo-a")
        reply = served.http.post(url, content=body, headers=JSON)
        assert_refused(reply, name)
        if SHAPES["post", path].needs_body and SHAPES["post", path].body:
            assert reply.status_code in (400, 409), name
    assert_well(served)


@pytest.mark.parametrize("path", TURNS)
@pytest.mark.parametrize("name", FIELDS)
def test_fields_out_of_bounds(served: Served, path: str, name: str) -> None:
    content = json.dumps(BASE | FIELDS[name]).encode()
    assert_refused(served.http.post(path, content=content, headers=JSON), name)
    assert served.engine.wait_for(lambda: served.engine.running == [])


@pytest.mark.parametrize("agent_id", IDS)
def test_ids_that_lead_elsewhere(served: Served, agent_id: str) -> None:
    for method, shape in SHAPES:
        if "{" in shape:
            path = shape[: shape.index("{")] + agent_id + shape[shape.index("}") + 1 :]
            status, content = exchange(
                served.server.port,
                head(method.upper(), path, "content-type: application/json", "content-length: 2")
                + b"{}",
            )
            assert 400 <= status < 500, (method, path, status)
            assert "message" in json.loads(content)["error"], (method, path)
            assert b"root:" not in content
    assert_well(served)


def test_sockets_that_say_half_of_it_cost_nothing(served: Served) -> None:
    port = served.server.port
    whole = post("/v1/messages", BASE | {"stream": True})
    process = psutil.Process()
    exchange(port, whole)
    before = process.memory_info().rss
    half_open = []
    for number in range(500):
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        client.sendall(whole[: number % len(whole)])
        half_open.append(client)
    assert served.http.get("/health/live").status_code == 200
    for client in half_open:
        client.close()
    assert_well(served)
    assert process.memory_info().rss - before < MAX_GROWTH_BYTES


def test_a_thousand_connections_one_after_the_other(served: Served) -> None:
    request = head("GET", "/health/live", "connection: close")
    assert {exchange(served.server.port, request)[0] for _ in range(1000)} == {200}
    assert_well(served)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def _values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows, and now and then any other."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | VALUES
    if "anyOf" in schema:
        return st.one_of([_values_of(each) for each in schema["anyOf"]])
    kind = schema.get("type")
    if kind == "array":
        return st.lists(_values_of(schema["items"]), max_size=3) | VALUES
    if kind == "object" and schema.get("properties"):
        fields = {name: _values_of(each) for name, each in schema["properties"].items()}
        needed = schema.get("required", ())
        rest = {name: each for name, each in fields.items() if name not in needed}
        return st.fixed_dictionaries({name: fields[name] for name in needed}, optional=rest)
    plain = {"string": st.text(max_size=20), "integer": st.integers(), "boolean": st.booleans()}
    return plain.get(str(kind), VALUES) | VALUES


def _described_bodies() -> dict[str, dict[str, Any]]:
    paths = json.loads(Path(INTERFACE).read_text("utf-8"))["paths"]
    return {
        path: operations["post"]["requestBody"]["content"]["application/json"]["schema"]
        for path, operations in paths.items()
        if "application/json"
        in operations.get("post", {}).get("requestBody", {}).get("content", {})
    }


@pytest.mark.parametrize("path", _described_bodies())
def test_whatever_the_description_allows_is_answered_or_refused(shared: Served, path: str) -> None:
    shared.engine.reset()

    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(_values_of(_described_bodies()[path]))
    def ask(body: Any) -> None:
        url = path.replace("{agent_id}", "repo-a")
        content = json.dumps(body).encode()
        assert_refused(shared.http.post(url, content=content, headers=JSON), path)

    ask()
    assert_well(shared)
