"""The engine hears of replies that end with tool calls, however they are asked for and read."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.commands import Note, ToolsCalled
from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, Script

CALL = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'
END = Note(kind="test", text="the end")
ASKED = [{"role": "user", "content": "What is in this folder?"}]
SCHEMA = {"type": "object"}
FUNCTION = {"name": "bash", "parameters": SCHEMA}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {
        "messages": ASKED,
        "max_tokens": 100,
        "tools": [{"name": "bash", "input_schema": SCHEMA}],
    },
    "/v1/chat/completions": {
        "messages": ASKED,
        "tools": [{"type": "function", "function": FUNCTION}],
    },
    "/v1/responses": {"input": ASKED, "tools": [{"type": "function", **FUNCTION}]},
}


def ask(served: Served, route: str, *, stream: bool = False, **fields: Any) -> None:
    body = {"model": MODEL_ID, "stream": stream, **BODIES[route], **fields}
    reply = served.http.post(route, json=body, headers={"x-agent-id": "repo-a"})
    assert reply.status_code == 200, reply.text


def told(served: Served) -> list[ToolsCalled]:
    """What was told before a note that is sent now."""
    served.engine.send(END)
    deadline_s = time.monotonic() + 10.0
    while END not in served.engine.notes:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    return [each for each in served.engine.commands if isinstance(each, ToolsCalled)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("route", BODIES)
def test_a_reply_that_calls_a_tool_is_told_with_its_turn(
    served: Served, route: str, stream: bool
) -> None:
    served.engine.script = Script(words=("Let me look.\n", CALL[:30], CALL[30:]))
    ask(served, route, stream=stream)
    ask(served, route, stream=stream)
    assert [(each.agent_id, each.turn_number) for each in told(served)] == [
        ("repo-a", 1),
        ("repo-a", 2),
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("route", BODIES)
def test_a_reply_without_calls_is_not(served: Served, route: str, stream: bool) -> None:
    for words in (("Paris.",), ("Half a call: ", CALL[:30])):
        served.engine.script = Script(words=words)
        ask(served, route, stream=stream)
    assert told(served) == []


def test_a_reply_that_was_cut_off_is_not(served: Served) -> None:
    served.engine.script = Script(words=(CALL, " and", " more", " words"))
    ask(served, "/v1/messages", max_tokens=2)
    assert told(served) == []
