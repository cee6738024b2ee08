"""Keys of several people on one server: what each may see, and what not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from app.api.settings import ApiSettings
from app.api_keys import ApiKey
from engine.agent_commands import PinAgent
from engine.snapshot import AgentRow, AgentStatus
from tests.api.conftest import Serve, Served, serving

BODY: Any = {"model": "", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
OPERATOR = {"x-api-key": "operators"}
ALICE = {"x-api-key": "key-of-alice"}
BOB = {"authorization": "Bearer key-of-bob"}
NAMED = (ApiKey("alice", "key-of-alice"), ApiKey("bob", "key-of-bob"))
AGENTS = (
    AgentRow(agent_id="repo", namespace="alice", num_prompt_tokens=10),
    AgentRow(agent_id="repo", namespace="bob", num_prompt_tokens=20),
    AgentRow(agent_id="mine", namespace="alice", status=AgentStatus.WARM, num_context_tokens=7),
    AgentRow(agent_id="house"),
)


@pytest.fixture(scope="module")
def keyed() -> Iterator[Served]:
    with serving(None, ApiSettings(port=0, api_key="operators", api_keys=NAMED)) as served:
        yield served


@pytest.fixture
def house(keyed: Served) -> Served:
    keyed.engine.reset()
    keyed.engine.snapshot = replace(keyed.engine.snapshot, agents=AGENTS)
    return keyed


@pytest.mark.parametrize(("headers", "namespace"), [(OPERATOR, ""), (ALICE, "alice"), (BOB, "bob")])
def test_a_turn_belongs_to_the_key_it_came_with(
    house: Served, headers: dict[str, str], namespace: str
) -> None:
    for path in ("/v1/messages", "/v1/chat/completions"):
        assert house.http.post(path, json=BODY, headers=headers).is_success
        assert house.engine.requests[-1].namespace == namespace


@pytest.mark.parametrize("key", ["", "key-of-alic", "key-of-alicee", "alice", "Key-of-alice"])
def test_nothing_but_a_whole_key_opens(house: Served, key: str) -> None:
    assert house.http.post("/v1/messages", json=BODY, headers={"x-api-key": key}).status_code == 401


def test_a_key_is_any_text(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, api_keys=(ApiKey("z", "schlüssel"),)))
    for encoding, status in (("utf-8", 200), ("latin-1", 401)):
        headers = [(b"x-api-key", "schlüssel".encode(encoding))]
        assert served.http.get("/v1/models", headers=headers).status_code == status


def test_the_list_has_the_callers_own_agents(house: Served) -> None:
    def listed(headers: dict[str, str]) -> list[tuple[str, int]]:
        rows = house.http.get("/v1/agents", headers=headers).json()["data"]
        return [(row["agent_id"], row["num_prompt_tokens"]) for row in rows]

    assert listed(ALICE) == [("repo", 10), ("mine", 0)]
    assert listed(BOB) == [("repo", 20)]
    assert listed(OPERATOR) == [("house", 0)]


def test_another_keys_agent_is_not_there(house: Served) -> None:
    assert house.http.get("/v1/agents/mine", headers=ALICE).is_success
    unknown = house.http.get("/v1/agents/nobody", headers=BOB).json()
    for headers in (BOB, OPERATOR):
        reply = house.http.get("/v1/agents/mine", headers=headers)
        assert reply.status_code == 404
        # In the same words as one that nobody has.
        assert str(reply.json()).replace("mine", "nobody") == str(unknown)


@pytest.mark.parametrize("action", ["evict", "warm", "fork", "pin", "unpin"])
def test_another_keys_agent_cannot_be_touched(house: Served, action: str) -> None:
    path = f"/v1/agents/mine/{action}"
    assert house.http.post(path, headers=ALICE).is_success
    for headers in (BOB, OPERATOR):
        assert house.http.post(path, headers=headers).status_code == 404
    for command in house.engine.commands:
        assert getattr(command, "agent_id", "mine") == "mine"


@pytest.mark.parametrize("path", ["/admin/state", "/metrics", "/admin/nothing"])
def test_the_engine_as_a_whole_is_for_the_operator(house: Served, path: str) -> None:
    for headers in (ALICE, BOB):
        reply = house.http.get(path, headers=headers)
        assert reply.status_code == 403
        assert "operator" in reply.json()["error"]["message"]
    assert house.http.get(path, headers=OPERATOR).status_code != 403
    assert house.http.get(path).status_code == 401


def test_without_a_simple_key_nobody_is_the_operator(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, api_keys=NAMED))
    assert served.http.get("/admin/state").status_code == 401
    assert served.http.get("/admin/state", headers=ALICE).status_code == 403
    assert served.http.get("/v1/models").status_code == 401
    assert served.http.get("/v1/models", headers=ALICE).status_code == 200


def test_the_log_names_the_key_and_never_shows_it(
    house: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "stoker.api.request"):
        assert house.http.post("/v1/messages", json=BODY, headers=ALICE).is_success
        house.http.get("/v1/models", headers={"x-api-key": "key-of-nobody"})
    assert "key=alice" in caplog.text
    assert "key-of" not in caplog.text


def test_the_operator_reaches_another_keys_agents_by_its_name(house: Served) -> None:
    params = {"namespace": "alice"}
    reply = house.http.post("/v1/agents/repo/pin", params=params, headers=OPERATOR)
    assert reply.json() == {"agent_id": "repo", "pinned": True}
    command = house.engine.commands[-1]
    assert isinstance(command, PinAgent)
    assert command.namespace == "alice"
    rows = house.http.get("/v1/agents", params=params, headers=OPERATOR).json()["data"]
    assert [row["agent_id"] for row in rows] == ["repo", "mine"]


def test_a_named_key_reaches_no_namespace_but_its_own(house: Served) -> None:
    for name in ("alice", ""):
        reply = house.http.post(f"/v1/agents/repo/pin?namespace={name}", headers=BOB)
        assert reply.status_code == 403
        assert "takes the operator's key" in reply.json()["error"]["message"]
    assert house.engine.commands == []
    assert house.http.post("/v1/agents/repo/pin?namespace=bob", headers=BOB).is_success


def test_a_named_key_may_wait_longer_but_not_go_ahead_of_others(house: Served) -> None:
    path = "/v1/agents/repo/priority"
    assert house.http.post(path, headers=BOB, json={"priority": -1}).is_success
    refused = house.http.post(path, headers=BOB, json={"priority": 1})
    assert refused.status_code == 403
    assert "operator's key" in refused.json()["error"]["message"]
    ahead = house.http.post(f"{path}?namespace=bob", headers=OPERATOR, json={"priority": 1})
    assert ahead.is_success
