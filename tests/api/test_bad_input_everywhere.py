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
from tests.api.bad_requests import BODIES, FIELDS, IDS, LETTERS, REFUSED_AT, TURNS, USER
from tests.api.conftest import Served, serving
from tests.api.raw_http import exchange, head, post

JSON = {"content-type": "application/json"}
MAX_GROWTH_BYTES = 300 << 20
POSTS = sorted(path for method, path in SHAPES if method == "post")
JSON_POSTS = [path for path in POSTS if SHAPES["post", path].media_type == "application/json"]


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
    content = json.dumps(TURNS[path] | FIELDS[name]).encode()
    reply = served.http.post(path, content=content, headers=JSON)
    assert_refused(reply, name)
    assert (reply.status_code != 200) == (LETTERS[path] in REFUSED_AT[name]), reply.text[:300]
    assert_well(served)


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
    whole = post("/v1/messages", TURNS["/v1/messages"] | {"stream": True})
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
