"""Replies of the Anthropic API that are more than text: calls and thoughts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.api.conftest import Serve, Served
from tests.api.word_engine import MODEL_ID, Script

HELLO: list[Any] = [{"role": "user", "content": "What is in this folder?"}]
TOOLS: list[Any] = [
    {"name": "bash", "description": "Runs a command.", "input_schema": {"type": "object"}},
    {"name": "read", "description": "Reads a file.", "input_schema": {"type": "object"}},
]
LIST = '{"name": "bash", "arguments": {"command": "ls", "all": true}}'
READ = '{"name": "read", "arguments": {}}'
CALLS = (
    "Let me look.\n\n",
    "<tool_call>\n",
    LIST[:20],
    LIST[20:],
    "\n</tool_call>",
    "\n<tool_call>",
    READ,
    "</tool_call>\n",
)
THOUGHT = ("<think>", "\nHm, a", " folder.\n", "</think>\n\n", "Files", ".")
ENABLED: dict[str, Any] = {"type": "enabled", "budget_tokens": 1024}


def ask(served: Served, **fields: Any) -> dict[str, Any]:
    body = {"model": MODEL_ID, "max_tokens": 100, "messages": HELLO, **fields}
    reply = served.http.post("/v1/messages", json=body)
    assert reply.status_code == 200, reply.text
    message: dict[str, Any] = reply.json()
    return message


def says(served: Served, *words: str) -> Served:
    served.engine.script = Script(words=words)
    return served


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_sdk_gets_text_and_calls(served: Served, is_streamed: bool) -> None:
    asked: Any = {"model": MODEL_ID, "max_tokens": 100, "messages": HELLO, "tools": TOOLS}
    client = says(served, *CALLS).anthropic
    if is_streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    text, first, second = message.content
    assert text.type == "text"
    assert text.text == "Let me look."
    assert first.type == second.type == "tool_use"
    assert (first.name, first.input) == ("bash", {"command": "ls", "all": True})
    assert (second.name, second.input) == ("read", {})
    assert re.fullmatch("toolu_[0-9a-f]{24}", first.id)
    assert first.id != second.id
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == len(CALLS)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_sdk_gets_thoughts_and_may_send_them_back(served: Served, is_streamed: bool) -> None:
    asked: Any = {"model": MODEL_ID, "max_tokens": 100, "messages": HELLO, "thinking": ENABLED}
    client = says(served, *THOUGHT).anthropic
    if is_streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    thinking, text = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking == "Hm, a folder."
    assert len(thinking.signature) > 20
    assert text.type == "text"
    assert text.text == "Files."
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == len(THOUGHT)

    returned = [block.model_dump() for block in message.content]
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    bare = {"type": "thinking", "thinking": "", "signature": ""}
    follow_up = [*HELLO, {"role": "assistant", "content": [redacted, bare, *returned]}, *HELLO]
    assert ask(served, messages=follow_up)["content"]


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}])
def test_thoughts_that_nobody_asked_for_are_left_out_but_counted(
    served: Served, thinking: Any
) -> None:
    message = ask(says(served, *THOUGHT), thinking=thinking)
    assert message["content"] == [{"type": "text", "text": "Files."}]
    assert message["usage"]["output_tokens"] == len(THOUGHT)


def test_thoughts_may_be_marked_without_their_text(served: Served) -> None:
    asked: Any = {"type": "adaptive", "display": "omitted"}
    thinking, text = ask(says(served, *THOUGHT), thinking=asked)["content"]
    assert thinking["thinking"] == ""
    assert thinking["signature"]
    assert text == {"type": "text", "text": "Files."}


@pytest.mark.parametrize("num_words", [1, 2, 3, 4])
def test_a_call_that_was_cut_off_is_text(served: Served, num_words: int) -> None:
    message = ask(says(served, *CALLS), tools=TOOLS, max_tokens=num_words)
    said = "".join(CALLS[:num_words])
    if num_words == 4:  # only the closing mark is missing
        assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    else:
        assert message["content"] == [{"type": "text", "text": said}]
    assert message["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": {"type": "none"}}])
def test_a_call_that_may_not_be_made_is_text(served: Served, fields: dict[str, Any]) -> None:
    message = ask(says(served, *CALLS), **fields)
    assert message["content"] == [{"type": "text", "text": "".join(CALLS)}]
    assert message["stop_reason"] == "end_turn"


def test_one_call_at_a_time_where_the_client_wants_that(served: Served) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    message = ask(says(served, *CALLS), tools=TOOLS, tool_choice=choice)
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]


def test_no_tokens_are_wanted_but_the_prompt(served: Served) -> None:
    message = ask(served, max_tokens=0)
    assert message["content"] == []
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] == 0
    assert served.engine.requests[0].sampling.max_tokens == 0


def test_what_was_asked_of_the_form_reaches_the_model(served: Served) -> None:
    schema = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "null"}}}
    wanted = {"type": "json_schema", "schema": schema}
    ask(served, output_config={"format": wanted, "effort": "high"})
    ask(served, output_format=wanted)
    ask(served, output_config={"effort": "high"})
    chat_format: Any = served.engine.chat_format
    wishes = [wish[1] for wish in chat_format.wishes]
    assert wishes[:2] == [json.dumps(schema)] * 2
    assert wishes[2] is None


@pytest.mark.parametrize(
    ("choice", "use", "names", "is_parallel"),
    [
        ({"type": "auto"}, "auto", (), True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", (), False),
        ({"type": "tool", "name": "read"}, "required", ("read",), True),
        ({"type": "none"}, "none", (), True),
        (None, "auto", (), True),
    ],
)
def test_every_choice_of_tools_is_understood(
    served: Served, choice: Any, use: str, names: tuple[str, ...], is_parallel: bool
) -> None:
    ask(served, tools=TOOLS, tool_choice=choice)
    chat_format: Any = served.engine.chat_format
    wish = chat_format.wishes[0][0]
    assert (wish.use, wish.names, wish.is_parallel) == (use, names, is_parallel)


def test_a_stream_of_a_reply_without_a_word_is_whole(serve: Serve) -> None:
    served = serve(Script(words=()))
    with served.anthropic.messages.stream(model=MODEL_ID, max_tokens=9, messages=HELLO) as stream:
        message = stream.get_final_message()
    assert message.content == []
    assert message.stop_reason == "end_turn"
