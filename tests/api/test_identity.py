from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Served

USER: Any = {"role": "user", "content": "hi"}
SESSION = '{"device_id":"d","account_uuid":"","session_id":"from-json"}'


def agent_of(
    served: Served, headers: dict[str, str], fields: dict[str, Any] | None = None
) -> str | None:
    body = {"model": "", "max_tokens": 9, "messages": [USER], **(fields or {})}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    for route in ("/v1/messages", "/v1/chat/completions"):
        reply = served.http.post(route, json=body, headers=raw)
        assert reply.status_code == 200, reply.text
    first, second = served.engine.requests[-2:]
    assert first.agent_id == second.agent_id
    assert (first.protocol, second.protocol) == ("anthropic", "openai")
    return first.agent_id


@pytest.mark.parametrize("agent_id", ["repo-a", "a b/c:d", "репо", "😀", "x" * 200])
def test_an_agent_id_is_taken_verbatim(served: Served, agent_id: str) -> None:
    assert agent_of(served, {"X-Agent-ID": agent_id}) == agent_id


def test_the_first_source_that_is_there_wins(served: Served) -> None:
    headers = {
        "X-Agent-ID": "one",
        "X-Claude-Code-Session-Id": "two",
        "x-claude-code-agent-id": "sub",
        "thread-id": "four",
        "x-session-id": "six",
    }
    fields: dict[str, Any] = {
        "metadata": {"user_id": SESSION},
        "prompt_cache_key": "five",
        "session_id": "seven",
        "user": "eight",
    }
    expected = ["one", "two/sub", "from-json", "four", "five", "six", "seven", "eight", None]
    removals: list[list[str]] = [
        ["X-Agent-ID"],
        ["X-Claude-Code-Session-Id", "x-claude-code-agent-id"],
        ["metadata"],
        ["thread-id"],
        ["prompt_cache_key"],
        ["x-session-id"],
        ["session_id"],
        ["user"],
        [],
    ]
    for agent_id, names in zip(expected, removals, strict=True):
        assert agent_of(served, headers, fields) == agent_id
        for name in names:
            headers.pop(name, None)
            fields.pop(name, None)


@pytest.mark.parametrize(
    ("user_id", "agent_id"),
    [
        ("user_abc_account__session_1234-ab", "1234-ab"),
        ('{"session_id": "s"}', "s"),
        ('{"session_id": 5}', None),
        ("[" * 4000, None),
        ("x" * 100_000, None),
        ("alice", None),
        (5, None),
    ],
)
def test_sessions_in_the_user_id(served: Served, user_id: object, agent_id: str | None) -> None:
    assert agent_of(served, {}, {"metadata": {"user_id": user_id}}) == agent_id


@pytest.mark.parametrize("agent_id", ["x" * 201, "\u202egnp", "a\x85b", "a\tb"])
def test_a_harmful_id_is_refused_by_the_name_of_its_header(served: Served, agent_id: str) -> None:
    body = {"messages": [USER]}
    headers = [(b"X-Agent-ID", agent_id.encode())]
    reply = served.http.post("/v1/messages", json=body, headers=headers)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith("X-Agent-ID: an agent id must be")
    reply = served.http.post("/v1/chat/completions", json=body, headers=headers)
    assert reply.json()["error"]["param"] == "X-Agent-ID"


def test_a_harmful_id_in_the_body_is_refused_too(served: Served) -> None:
    body = {"messages": [USER], "user": "a\x1b[2Jb"}
    reply = served.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "user"


def test_without_an_id_the_tools_and_the_system_prompt_give_a_hint(served: Served) -> None:
    def hint(**fields: Any) -> str:
        agent_of(served, {}, fields)
        return served.engine.requests[-2].agent_hint

    plain = hint()
    assert plain == hint(messages=[{"role": "user", "content": "another question"}])
    brief = hint(messages=[{"role": "system", "content": "Be brief."}, USER])
    long = hint(messages=[{"role": "system", "content": "Be long."}, USER])
    assert plain == "anon"
    assert brief.startswith("anon-")
    assert len({plain, brief, long}) == 3


TOOL = {"name": "Read", "input_schema": {"type": "object"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
MARKED = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("fields", "agent_id"),
    [
        ({}, "s/side"),
        ({"tools": []}, "s/side"),
        ({"tools": [SEARCH]}, "s/side"),
        ({"tools": [TOOL]}, "s"),
        ({"system": [MARKED]}, "s"),
        ({"messages": [{"role": "user", "content": [MARKED]}]}, "s"),
        ({"cache_control": {"type": "ephemeral"}}, "s"),
    ],
)
def test_what_a_coding_agent_asks_beside_its_conversation_is_an_agent_of_its_own(
    served: Served, fields: dict[str, Any], agent_id: str
) -> None:
    for name, session in (
        ("X-Claude-Code-Session-Id", {}),
        ("accept", {"metadata": {"user_id": '{"session_id": "s"}'}}),
    ):
        headers = {name: "s", "user-agent": "claude-cli/2.1.329 (external, cli)"}
        body = {"max_tokens": 9, "messages": [USER], **session, **fields}
        assert served.http.post("/v1/messages", json=body, headers=headers).status_code == 200
        assert served.engine.requests[-1].agent_id == agent_id


def test_a_title_for_opencode_is_an_agent_of_its_own(served: Served) -> None:
    tool = {"type": "function", "function": {"name": "read"}}
    agents = []
    for tools in ([], [tool]):
        headers = {"x-session-id": "s", "user-agent": "opencode/1.18.33 ai-sdk"}
        body = {"messages": [USER], "tools": tools}
        served.http.post("/v1/chat/completions", json=body, headers=headers)
        agents.append(served.engine.requests[-1].agent_id)
    assert agents == ["s/side", "s"]


def test_other_clients_without_tools_keep_their_session(served: Served) -> None:
    assert agent_of(served, {"X-Claude-Code-Session-Id": "s"}) == "s"
    assert agent_of(served, {"x-session-id": "s"}) == "s"


def test_a_sub_agent_is_never_a_side_request(served: Served) -> None:
    headers = {
        "X-Claude-Code-Session-Id": "s",
        "x-claude-code-agent-id": "sub",
        "user-agent": "claude-cli/2.1.329",
    }
    assert agent_of(served, headers) == "s/sub"
