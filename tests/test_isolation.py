"""Two people with a key each on one Stoker, with the real model: neither sees the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real_server import RealServer, real_server

SYSTEM = "You are careful. " + "Follow the rules of this house and explain yourself well. " * 60
QUESTION = "What is the capital of France?"
ALICE, BOB, OPERATOR = "key-of-alice", "key-of-bob", "the-operators"
KEYS = {"API_KEY": OPERATOR, "API_KEYS": f"alice={ALICE},bob={BOB}"}


@pytest.fixture(scope="module")
def home(bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(bundled_models_dir)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RealServer]:
    with real_server(home, **KEYS) as server:
        yield server


def turn(server: RealServer, key: str, agent: str, question: str = QUESTION) -> dict[str, Any]:
    reply = server.ask(agent, question, system=SYSTEM, key=key)
    body: dict[str, Any] = reply.raise_for_status().json()
    return body


def num_cached(body: dict[str, Any]) -> int:
    return int(body["usage"]["cache_read_input_tokens"])


def agents(server: RealServer, key: str) -> list[str]:
    rows = server.http.get("/v1/agents", headers={"x-api-key": key}).raise_for_status().json()
    return sorted(row["agent_id"] for row in rows["data"])


def statuses_of(server: RealServer) -> dict[tuple[str, str], str]:
    """What each agent is doing, by namespace and id."""
    rows = server.state(OPERATOR)["agents"]
    return {(row["namespace"], row["agent_id"]): row["status"] for row in rows}


def test_neither_reuses_finds_or_touches_what_is_the_others(server: RealServer, home: Path) -> None:
    first = turn(server, ALICE, "repo")
    assert num_cached(first) == 0
    assert num_cached(turn(server, ALICE, "second", "And of Spain?")) >= 512, "her own are shared"

    # The same words under another key are computed as if nobody had ever said them.
    same = turn(server, BOB, "repo")
    assert num_cached(same) == 0
    assert same["content"] == first["content"]
    assert num_cached(turn(server, OPERATOR, "repo")) == 0
    assert num_cached(turn(server, BOB, "repo")) >= 512
    count = server.http.post(
        "/v1/messages/count_tokens",
        json={"messages": [{"role": "user", "content": QUESTION}]},
        headers={"x-api-key": BOB},
    )
    assert count.is_success

    assert agents(server, ALICE) == ["repo", "second"]
    assert agents(server, BOB) == agents(server, OPERATOR) == ["repo"]
    for method, path in (("GET", ""), ("POST", "/evict"), ("POST", "/fork"), ("POST", "/pin")):
        for key in (BOB, OPERATOR):
            reply = server.http.request(
                method, f"/v1/agents/second{path}", headers={"x-api-key": key}
            )
            assert reply.status_code == 404
    rows = server.state(OPERATOR)["agents"]
    assert sorted((row["namespace"], row["agent_id"]) for row in rows) == [
        ("", "repo"),
        ("alice", "repo"),
        ("alice", "second"),
        ("bob", "repo"),
    ]
    with pytest.raises(httpx.HTTPStatusError):
        server.state(ALICE)

    evicted = server.http.post("/v1/agents/repo/evict", headers={"x-api-key": BOB})
    assert evicted.is_success
    deadline_s = time.monotonic() + 10
    while (statuses := statuses_of(server))["bob", "repo"] not in ("warm", "cold"):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert statuses["alice", "repo"] == "idle"


def test_a_restart_keeps_them_apart(server: RealServer, home: Path) -> None:
    question = "Which river flows through Rome?"
    turn(server, ALICE, "rome", question)
    server.await_state(lambda state: _is_saved(state, "alice", "rome"), OPERATOR)
    server.kill()
    with real_server(home, **KEYS) as again:
        assert "rome" in agents(again, ALICE)
        assert "rome" not in agents(again, BOB)
        body = again.ask("rome", question, key=BOB).raise_for_status().json()
        assert num_cached(body) == 0
        assert num_cached(turn(again, ALICE, "rome", question)) >= 512


def _is_saved(state: dict[str, Any], namespace: str, agent: str) -> bool:
    row = next(r for r in state["agents"] if (r["namespace"], r["agent_id"]) == (namespace, agent))
    return bool(row["warm_bytes"]) and row["warm_bytes"] >= row["hot_bytes"]
