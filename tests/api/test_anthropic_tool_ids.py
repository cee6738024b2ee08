"""Calls and results of a conversation have to fit together; the error says where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, prompt_text

ASKED = {"role": "user", "content": "What is in this folder?"}
REMINDER = {"role": "system", "content": "Be brief."}


def calls(*ids: str) -> dict[str, Any]:
    blocks = [{"type": "tool_use", "id": each, "name": "bash", "input": {}} for each in ids]
    return {"role": "assistant", "content": blocks}


def results(*ids: str, text: str = "") -> dict[str, Any]:
    blocks: list[Any] = [{"type": "tool_result", "tool_use_id": each} for each in ids]
    return {
        "role": "user",
        "content": [*blocks, *([{"type": "text", "text": text}] if text else [])],
    }


def post(served: Served, *messages: dict[str, Any], **fields: Any) -> Any:
    body = {"model": MODEL_ID, "max_tokens": 9, "messages": messages, **fields}
    return served.http.post("/v1/messages", json=body)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([results("t1")], "messages.0.content.0.tool_use_id: unexpected"),
        ([ASKED, results("t1")], "messages.1.content.0.tool_use_id: unexpected"),
        ([ASKED, calls("t1"), results("t2")], "messages.2.content.0.tool_use_id: unexpected"),
        (
            [ASKED, calls("t1"), results("t1"), calls("t2"), results("t2", "t1")],
            "messages.4.content.1.tool_use_id: unexpected",
        ),
        (
            [ASKED, calls("t1", "t2", "t1"), results("t1", "t2")],
            "messages.1.content.2.id: `tool_use` ids must be unique",
        ),
        (
            [ASKED, calls("t1"), results("t1"), calls("t1"), results("t1")],
            "messages.3.content.0.id: `tool_use` ids must be unique",
        ),
        (
            [ASKED, calls("t1"), results("t1", "t1")],
            "messages.2.content.1.tool_use_id: each `tool_use` must have a single result",
        ),
        ([ASKED, calls("t1")], "messages.1.content.0.id: no `tool_result` block"),
        ([ASKED, calls("t1"), ASKED], "messages.1.content.0.id: no `tool_result` block"),
        (
            [ASKED, calls("t1", "t2"), results("t2"), calls("t3"), results("t3")],
            "messages.1.content.0.id: no `tool_result` block",
        ),
    ],
)
def test_ids_that_do_not_fit_are_named(
    served: Served, messages: list[dict[str, Any]], error: str
) -> None:
    reply = post(served, *messages)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert reply.json()["error"]["message"].startswith(error)
    assert served.engine.requests == []


@pytest.mark.parametrize(
    "messages",
    [
        [ASKED, calls("t1", "t2"), results("t2", "t1", text="Go on.")],
        [ASKED, calls("t1"), REMINDER, results("t1")],
        [ASKED, calls("t1"), calls("t2"), results("t1"), results("t2")],
        [ASKED, calls("t1"), results("t1"), calls("t2"), results("t2"), ASKED],
    ],
)
def test_ids_that_fit_are_taken(served: Served, messages: list[dict[str, Any]]) -> None:
    assert post(served, *messages).status_code == 200


def test_a_deferred_tool_is_told_of_where_a_result_refers_to_it(served: Served) -> None:
    tools = [
        {"name": "search", "input_schema": {"type": "object"}},
        {"name": "mail", "description": "Sends.", "input_schema": {}, "defer_loading": True},
    ]
    first = post(served, ASKED, tools=tools)
    found = results("t1")
    found["content"][0]["content"] = [{"type": "tool_reference", "tool_name": "mail"}]
    second = post(served, ASKED, calls("t1"), found, tools=tools)
    assert (first.status_code, second.status_code) == (200, 200)
    before, after = (prompt_text(request) for request in served.engine.requests)
    assert "mail" not in before
    assert after.startswith(before.removesuffix("\nassistant:"))
    assert 'tool: {"description":"Sends.","name":"mail","parameters":{}}\n' in after

    found["content"][0]["content"][0]["tool_name"] = "fax"
    error = post(served, ASKED, calls("t1"), found, tools=tools).json()["error"]["message"]
    assert error.startswith("messages.2.content.0.content.0.tool_name: ")


def test_a_deferred_tool_may_be_called(served: Served) -> None:
    served.engine.script.words = ('<tool_call>{"name": "mail", "arguments": {}}</tool_call>',)
    tools = [{"name": "mail", "input_schema": {}, "defer_loading": True}]
    assert post(served, ASKED, tools=tools).json()["content"][0]["name"] == "mail"
