"""What real clients sent (recorded; texts replaced by filler) is taken as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, prompt_text

FOLDER = Path(__file__).parent / "clients"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def replay(served: Served, name: str) -> httpx.Response:
    recorded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    headers = {key: value for key, value in recorded["headers"] if key.lower() != "host"}
    return served.http.request(
        recorded["method"], recorded["path"], headers=headers, json=recorded["body"]
    )


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("codex")])
def test_recorded_request_is_served(served: Served, name: str) -> None:
    reply = replay(served, name)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-stoker-model"] == MODEL_ID
    text = reply.text
    if "count_tokens" in str(reply.url):
        assert reply.json()["input_tokens"] > 1000
    elif "chat/completions" in str(reply.url):
        assert '"content":"Paris"' in text or '"content":"Paris is the capital."' in text
    elif reply.headers["content-type"].startswith("text/event-stream"):
        assert text.startswith("event: message_start\n")
        assert text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')
    else:
        assert reply.json()["content"] == [{"type": "text", "text": "Paris is the capital."}]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("codex")])
def test_codex_is_served(served: Served, name: str) -> None:
    reply = replay(served, name)
    assert reply.status_code == 200, reply.text
    assert reply.text.startswith("event: response.created\n")
    assert "event: response.completed\n" in reply.text
    assert '"delta":"Paris' in reply.text
    request = served.engine.requests[0]
    assert request.agent_id == "00000000-0000-4000-8000-000000000000"
    prompt = prompt_text(request)
    assert "tool exec_command " in prompt
    assert "tool multi_agent_v1.close_agent " in prompt
    assert "web_search" not in prompt


def test_the_next_turn_of_a_conversation_extends_its_prompt(served: Served) -> None:
    for name in ("cc-continue-01", "cc-continue-02", "cc-continue-03"):
        replay(served, name)
    first, second, third = (
        prompt_text(request).removesuffix("\nassistant:") for request in served.engine.requests
    )
    assert second.startswith(first)
    assert third.startswith(second)


def test_sub_agents_of_one_session_are_agents_of_their_own(served: Served) -> None:
    for number in (1, 2, 3, 4):
        replay(served, f"cc-subagents-0{number}")
    session = "00000000-0000-4000-8000-000000000000"
    assert [request.agent_id for request in served.engine.requests] == [
        session,
        f"{session}/a38d7bd902cbc9a1c",
        f"{session}/a023e709119d3cf66",
        session,
    ]


@pytest.mark.parametrize(
    ("name", "agent_id"),
    [
        ("cc2014-bash-02", "00000000-0000-4000-8000-000000000000/side"),
        ("cc2014-bash-04", "00000000-0000-4000-8000-000000000000"),
        ("cc-bare-notools-sysp-01", "00000000-0000-4000-8000-000000000000"),
        ("cc-tui-compact-04", "00000000-0000-4000-8000-000000000000"),
        ("cc-tui-compact-05", "00000000-0000-4000-8000-000000000000"),
        ("opencode1183-hello-02", "ses_e061e0f55ffecXnW6xY24y9Xn5"),
        ("llm-hello-01", None),
    ],
)
def test_recorded_clients_are_recognised(served: Served, name: str, agent_id: str | None) -> None:
    replay(served, name)
    assert served.engine.requests[0].agent_id == agent_id
