"""Whatever a reply is made of, the client that got it sends back what stands for its tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.api.anthropic.schema import parse_messages
from app.api.draft import TurnDraft
from app.api.fields import parse_object
from app.api.reply import Block, CallBlock, blocks_of
from engine.models.chat import ModelChat

TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("bash", "read")]
LIST = '<tool_call>{"name": "bash", "arguments": {"command": "ls", "a": [1, 2]}}</tool_call>'
READ = '<tool_call>\n{"arguments": {}, "name": "read"}\n</tool_call>'
UNKNOWN = '<tool_call>{"name": "erase"}</tool_call>'
FRAGMENTS = [
    LIST,
    READ,
    UNKNOWN,
    "<tool_call>",
    "</tool_call>",
    "<tool",
    " ",
    "\n\n",
    "One",
    "Two.",
]


@pytest.fixture(scope="module")
def chat(bundled_model_dir: Path) -> ModelChat:
    return ModelChat(bundled_model_dir)


def draft_of(messages: list[Any]) -> TurnDraft:
    body = {"messages": messages, "tools": TOOLS, "max_tokens": 9}
    return parse_messages(parse_object(json.dumps(body).encode()))


def told(chat: ModelChat, said: str) -> tuple[Block, ...]:
    draft = draft_of([{"role": "user", "content": "Hi"}])
    reader = chat.reply_reader(draft.tools, draft.tool_choice)
    return blocks_of([*reader.feed(said), *reader.finish()])


def block_of(block: Block) -> dict[str, Any]:
    if isinstance(block, CallBlock):
        arguments = json.loads(block.arguments_json)
        return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": arguments}
    return {"type": "text", "text": block.text}


@settings(max_examples=120, deadline=None)
@given(said=st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).map("".join))
@example(said=f"One{READ}Two.<tool")
@example(said=f"{READ}{UNKNOWN}One")
def test_every_reply_stands_for_its_tokens_when_it_comes_back(chat: ModelChat, said: str) -> None:
    question = {"role": "user", "content": f"Say {said!r}."}
    first = draft_of([question])
    prompt = chat.render_chat(first.messages, first.tools).token_ids
    generated = chat.encode_text(said)
    chat.remember_reply(prompt, generated)

    blocks = [block_of(block) for block in told(chat, said)]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "fine"}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    answer = {"role": "user", "content": [*results, {"type": "text", "text": "Go on."}]}
    second = draft_of([question, {"role": "assistant", "content": blocks}, answer])
    whole = prompt + generated
    assert chat.render_chat(second.messages, second.tools).token_ids[: len(whole)] == whole
