"""Agents whose conversation the server keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.api.conversations import Conversation, Conversations
from app.api.errors import ConversationTooLongError, NoConversationError
from app.api.settings import ApiSettings
from app.api_keys import ApiKey
from engine.errors import AgentNotFoundError, InvalidRequestError
from engine.snapshot import AgentRow
from tests.api.conftest import Serve, Served, serving
from tests.api.word_engine import Script, WordEngine, prompt_text

TOOL = {"name": "look", "input_schema": {"type": "object"}}
SAID = {"role": "user", "content": "hi"}
REPLY = "Paris is the capital."
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": REPLY}]}


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    keys = (ApiKey("alice", "key-a"), ApiKey("bob", "key-b"))
    with serving(settings=ApiSettings(port=0, api_key="ops", api_keys=keys)) as served:
        served.http.headers["x-api-key"] = "ops"
        yield served


def create(served: Served, **body: Any) -> str:
    reply = served.http.post("/v1/agents", json=body)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["agent_id"])


def send(served: Served, agent_id: str, content: Any, **body: Any) -> httpx.Response:
    return served.http.post(f"/v1/agents/{agent_id}/messages", json={"content": content, **body})


def kept(served: Served, agent_id: str) -> Any:
    return served.http.get(f"/v1/agents/{agent_id}/messages").json()


def list_agent(served: Served, agent_id: str, namespace: str = "") -> None:
    row = AgentRow(agent_id=agent_id, namespace=namespace)
    agents = (*served.engine.snapshot.agents, row)
    served.engine.snapshot = replace(served.engine.snapshot, agents=agents)


def test_an_agent_is_created_with_its_prompt_computed(served: Served) -> None:
    reply = served.http.post(
        "/v1/agents", json={"id": "one/a", "system": "Be brief.", "tools": [TOOL]}
    )
    assert reply.status_code == 201
    (request,) = served.engine.requests
    assert (request.agent_id, request.sampling.max_tokens) == ("one/a", 0)
    assert prompt_text(request).splitlines()[1:] == ["system: Be brief.", "user: ", "assistant:"]
    assert prompt_text(request).startswith("tool look")
    assert reply.json() == {
        "agent_id": "one/a",
        "num_tokens": len(request.prompt_token_ids),
        "num_cached_tokens": 7,
    }


def test_an_agent_needs_no_name_and_no_prompt(served: Served) -> None:
    names = {create(served), create(served, messages=[])}
    reply = served.http.post("/v1/agents")
    assert reply.status_code == 201
    assert len(names | {reply.json()["agent_id"]}) == 3
    assert all(name.startswith("agent-") for name in names)


def test_the_server_remembers_what_was_said(served: Served) -> None:
    create(served, id="two", system="Be brief.", messages=[SAID, ANSWER])
    reply = send(served, "two", "and now?", max_tokens=50, temperature=0.5)
    assert reply.status_code == 200
    body = reply.json()
    assert (body["type"], body["role"], body["stop_reason"]) == ("message", "assistant", "end_turn")
    assert body["content"] == ANSWER["content"]
    request = served.engine.requests[-1]
    assert (request.agent_id, request.sampling.temperature) == ("two", 0.5)
    assert request.sampling.max_tokens == 50
    assert send(served, "two", [{"type": "text", "text": "go on"}]).status_code == 200
    assert prompt_text(served.engine.requests[-1]).splitlines() == [
        "system: Be brief.",
        "user: hi",
        f"assistant: {REPLY}",
        "user: and now?",
        f"assistant: {REPLY}",
        "user: go on",
        "assistant:",
    ]
    shown = kept(served, "two")
    assert shown["system"] == "Be brief."
    assert [message["role"] for message in shown["data"]] == ["user", "assistant"] * 3
    assert shown["data"][2] == {"role": "user", "content": "and now?"}


def test_a_stream_is_remembered_as_well(served: Served) -> None:
    create(served, id="three")
    reply = send(served, "three", "hi", stream=True)
    events = [line for line in reply.text.splitlines() if line.startswith("event: ")]
    assert events[0] == "event: message_start"
    assert events[-1] == "event: message_stop"
    assert kept(served, "three")["data"] == [SAID, ANSWER]
    assert send(served, "three", "more").status_code == 200


def test_calls_and_their_results_go_on(served: Served) -> None:
    create(served, id="four", tools=[TOOL])
    served.engine.script = Script(
        words=('<tool_call>{"name": "look", "arguments": {}}</tool_call>',)
    )
    call = send(served, "four", "hi").json()
    assert call["stop_reason"] == "tool_use"
    (block,) = call["content"]
    orphan = [{"type": "tool_result", "tool_use_id": "toolu_x", "content": "?"}]
    assert send(served, "four", orphan).status_code == 400
    result = [{"type": "tool_result", "tool_use_id": block["id"], "content": "a cat"}]
    assert send(served, "four", result).status_code == 200
    assert len(kept(served, "four")["data"]) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_fails_leaves_the_conversation_as_it_was(served: Served, stream: bool) -> None:
    agent_id = create(served)
    served.engine.script = Script(fail_at=2)
    reply = send(served, agent_id, "hi", stream=stream)
    assert reply.status_code == (200 if stream else 500)
    assert kept(served, agent_id)["data"] == []
    served.engine.script = Script()
    assert send(served, agent_id, "hi").status_code == 200
    assert kept(served, agent_id)["data"] == [SAID, ANSWER]


def test_one_message_at_a_time(served: Served) -> None:
    agent_id = create(served)
    served.engine.script = Script(words=("a",) * 1000, step_s=0.02)
    body = {"content": "hi", "stream": True}
    with served.http.stream("POST", f"/v1/agents/{agent_id}/messages", json=body) as first:
        pieces = first.iter_bytes()
        assert next(pieces)
        reply = send(served, agent_id, "me too")
        assert reply.status_code == 409
        assert reply.json()["error"]["code"] == "agent_busy"
    assert served.engine.wait_for(lambda: served.engine.running == [])
    served.engine.script = Script()
    assert served.engine.wait_for(lambda: send(served, agent_id, "hi").status_code == 200)
    assert kept(served, agent_id)["data"] == [SAID, ANSWER]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "content: field required"),
        ({"content": None}, "content: field required"),
        ({"content": 5}, "messages.0.content"),
        ({"content": []}, "messages.0.content"),
        ({"content": "x", "system": "y"}, "system: is the agent's"),
        ({"content": "x", "tools": [TOOL]}, "tools: is the agent's"),
        ({"content": "x", "messages": [SAID]}, "messages: is the agent's"),
        ({"content": "x", "max_tokens": -1}, "max_tokens"),
    ],
)
def test_a_wrong_message_is_refused_and_not_kept(
    served: Served, body: dict[str, Any], words: str
) -> None:
    agent_id = create(served)
    reply = served.http.post(f"/v1/agents/{agent_id}/messages", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(words)
    assert kept(served, agent_id)["data"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"id": ""}, "id: an agent id must be"),
        ({"id": "\x1b[2J"}, "id: an agent id must be"),
        ({"id": 7}, "id: must be a string"),
        ({"system": 7}, "system"),
        ({"tools": [{}]}, "tools.0.name"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "messages.0.role"),
        ({"messages": 5}, "messages: must be a list"),
    ],
)
def test_a_wrong_beginning_makes_no_agent(served: Served, body: dict[str, Any], words: str) -> None:
    reply = served.http.post("/v1/agents", json={"id": "wrong"} | body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(words)
    assert served.http.get("/v1/agents/wrong/messages").status_code == 404


def test_a_name_is_taken_once(served: Served) -> None:
    create(served, id="five")
    reply = served.http.post("/v1/agents", json={"id": "five"})
    assert reply.status_code == 400
    assert "there is an agent 'five'" in reply.json()["error"]["message"]


def test_an_agent_that_is_known_without_its_words_says_what_to_do(served: Served) -> None:
    for reply in (send(served, "repo-a", "hi"), served.http.get("/v1/agents/repo-a/messages")):
        assert reply.status_code == 409
        assert reply.json()["error"]["code"] == "no_conversation"
        assert "POST /v1/agents" in reply.json()["error"]["message"]
    create(served, id="repo-a", messages=[SAID])
    assert send(served, "repo-a", "hi").status_code == 200
    assert send(served, "nobody", "hi").status_code == 404


def test_a_removed_agent_takes_its_conversation_along(served: Served) -> None:
    create(served, id="six", system="a secret")
    list_agent(served, "six")
    assert kept(served, "six")["system"] == "a secret"
    assert served.http.delete("/v1/agents/six").status_code == 200
    assert served.http.get("/v1/agents/six/messages").status_code == 404
    assert "system" not in kept(served, create(served, id="six"))


def test_an_agent_that_is_removed_by_key_takes_it_along_too(served: Served) -> None:
    create(served, id="seven")
    list_agent(served, "seven")
    assert kept(served, "seven")["data"] == []
    served.engine.reset()
    assert served.http.get("/v1/agents/seven/messages").status_code == 404


def test_a_removed_agent_is_gone_before_the_engine_shows_it(served: Served) -> None:
    store = Conversations(served.engine, max_conversations=3, max_bytes=10_000)
    key = ("", "repo-a")
    assert store.has_agent(key)
    store.remove(key)
    assert not store.has_agent(key)
    with pytest.raises(AgentNotFoundError):
        store.get(key)
    # Whatever the engine shows next it shows with the removal; the agent may be there again.
    list_agent(served, "another")
    assert store.has_agent(key)
    with pytest.raises(NoConversationError):
        store.get(key)


def test_a_removed_agent_is_not_listed_any_more(served: Served) -> None:
    served.engine.shows_removals = False
    for path in ("/v1/agents/repo-a", "/v1/agents/repo-a/messages"):
        assert served.http.get(path).status_code in (200, 409)
    assert served.http.delete("/v1/agents/repo-a").status_code == 200
    for path in ("/v1/agents/repo-a", "/v1/agents/repo-a/messages"):
        assert served.http.get(path).status_code == 404
    rows = served.http.get("/v1/agents").json()["data"]
    assert [row["agent_id"] for row in rows] == ["session/sub", "nightly"]


def test_a_fork_knows_what_was_said_before_it(served: Served) -> None:
    create(served, id="nine", system="Be brief.", tools=[TOOL])
    list_agent(served, "nine")
    for word in ("one", "two"):
        assert send(served, "nine", word).status_code == 200
    first = [{"role": "user", "content": "one"}, ANSWER]
    second = [{"role": "user", "content": "two"}, ANSWER]
    # The first turn was the one that computed the beginning.
    for name, body, messages in (
        ("all", {}, first + second),
        ("earlier", {"turn": 2}, first),
        ("opening", {"turn": 1}, []),
    ):
        reply = served.http.post("/v1/agents/nine/fork", json={"id": name, **body})
        assert reply.status_code == 201, reply.text
        assert kept(served, name)["data"] == messages
        assert kept(served, name)["system"] == "Be brief."
    assert send(served, "earlier", "three").status_code == 200
    assert prompt_text(served.engine.requests[-1]).splitlines()[-4:] == [
        "user: one",
        f"assistant: {REPLY}",
        "user: three",
        "assistant:",
    ]
    assert kept(served, "nine")["data"] == first + second


def test_a_fork_of_a_fork_goes_back_as_far(served: Served) -> None:
    create(served, id="ten", messages=[SAID, ANSWER])
    list_agent(served, "ten")
    send(served, "ten", "more")
    served.http.post("/v1/agents/ten/fork", json={"id": "ten-b"})
    list_agent(served, "ten-b")
    served.http.post("/v1/agents/ten-b/fork", json={"id": "ten-c", "turn": 1})
    assert kept(served, "ten-c")["data"] == [SAID, ANSWER]


def test_a_fork_of_what_is_not_kept_has_no_words(served: Served) -> None:
    reply = served.http.post("/v1/agents/repo-a/fork", json={"id": "wordless"})
    assert reply.status_code == 201
    list_agent(served, "wordless")
    assert served.http.get("/v1/agents/wordless/messages").status_code == 409


def test_an_agent_that_is_being_answered_is_not_forked(served: Served) -> None:
    agent_id = create(served)
    served.engine.script = Script(words=("a",) * 1000, step_s=0.02)
    body = {"content": "hi", "stream": True}
    with served.http.stream("POST", f"/v1/agents/{agent_id}/messages", json=body) as first:
        pieces = first.iter_bytes()
        assert next(pieces)
        reply = served.http.post(f"/v1/agents/{agent_id}/fork")
        assert reply.status_code == 409
        assert reply.json()["error"]["code"] == "agent_busy"


def test_a_conversation_is_its_keys_own(served: Served) -> None:
    alice, bob = ({"x-api-key": key} for key in ("key-a", "key-b"))
    for headers in (alice, bob):
        reply = served.http.post("/v1/agents", json={"id": "eight"}, headers=headers)
        assert reply.status_code == 201
    path = "/v1/agents/eight/messages"
    assert served.http.post(path, json={"content": "hi"}, headers=alice).status_code == 200
    assert served.engine.requests[-1].namespace == "alice"
    assert len(served.http.get(path, headers=alice).json()["data"]) == 2
    assert served.http.get(path, headers=bob).json()["data"] == []
    assert served.http.get(path).status_code == 404


def conversation(agent_id: str, num_chars: int) -> Conversation:
    return Conversation(("", agent_id), {}, [{"role": "user", "content": "x" * num_chars}])


def test_the_store_is_bounded_in_number_and_size() -> None:
    engine = WordEngine()
    store = Conversations(engine, max_conversations=3, max_bytes=10_000)
    for name in "abcd":
        store.add(conversation(name, 100))
    with pytest.raises(AgentNotFoundError):
        store.get(("", "a"))
    store.get(("", "b"))
    store.add(conversation("e", 9_000))
    assert store.get(("", "e"))
    with pytest.raises(ConversationTooLongError, match="use /v1/messages"):
        store.add(conversation("f", 10_000))
    with pytest.raises(ConversationTooLongError):
        store.check_grows(store.get(("", "e")), {"content": "x" * 1_000})
    with pytest.raises(InvalidRequestError, match="there is an agent 'e'"):
        store.add(conversation("e", 1))
    with pytest.raises(NoConversationError):
        store.get(("", "repo-a"))


def test_capabilities_are_those_of_now(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, max_requests=7, rate_limit_per_minute=600))
    body = served.http.get("/v1/capabilities").json()
    assert body["dialects"] == [
        "anthropic.messages",
        "openai.chat_completions",
        "openai.completions",
        "openai.responses",
    ]
    assert body["model"]["id"] == "tiny-words"
    assert body["model"]["max_context_tokens"] == 400_000
    assert (body["model"]["tools"], body["model"]["reasoning"]) == (True, True)
    assert (body["model"]["tool_choice"], body["model"]["json_schema"]) == (False, False)
    assert body["cache"]["disk_bytes"] == 80
    assert body["limits"]["requests"] == 7
    assert body["limits"]["rate_per_minute"] == 600
    served.engine.chat_format = None
    served.engine.snapshot = replace(served.engine.snapshot, model_detail=None)
    assert served.http.get("/v1/capabilities").json()["model"] is None
    assert json.dumps(body)
