"""Recorded and generated responses, turn by turn: what was computed for one is found by the next.

The prompts are the real ones of the bundled model's template and tokenizer.
"""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from app.api.fields import parse_object
from app.api.openai.response_items import OutputItems
from app.api.openai.response_schema import ResponseDraft, ResponseParser, stored_output
from app.api.openai.response_store import ResponseStore, StoredResponse
from engine.messages import ToolChoice
from engine.models.chat import ModelChat

FOLDER = Path(__file__).parent / "clients"
NAMES = sorted(path.stem for path in FOLDER.glob("codex*.json"))
Body = dict[str, Any]
TEXT_AND_CALLS = """I will look.
<tool_call>
{"arguments": {"yield_time_ms": 5, "cmd": "ls"}, "name": "exec_command"}
</tool_call>
<tool_call>{"name": "multi_agent_v1.close_agent", "arguments": {"target": "a"}}</tool_call>
"""

TEXT_CALL_TEXT = """I will look.
<tool_call>{"name": "exec_command", "arguments": {"cmd": "ls"}}</tool_call>
And then I will think.
"""


@pytest.fixture(scope="module")
def chat(bundled_model_dir: Path) -> ModelChat:
    return ModelChat(bundled_model_dir)


@pytest.fixture
def store() -> ResponseStore:
    return ResponseStore(100, 10_000_000)


def recorded(name: str) -> Body:
    body: Body = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["body"]
    return body


def parsed(body: Body, store: ResponseStore) -> ResponseDraft:
    return ResponseParser(store, "")(parse_object(json.dumps(body).encode()))


def tokens_of(chat: ModelChat, draft: ResponseDraft) -> tuple[int, ...]:
    (prompt,) = draft.render(chat, "")
    return prompt.token_ids


def num_lost(stored: tuple[int, ...], prompt: tuple[int, ...]) -> int:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(stored, prompt, strict=False))
    return len(stored) - sum(1 for _ in same)


def spelled(chat: ModelChat, text: str) -> tuple[int, ...]:
    """A text in tokens that the tokenizer would not choose."""
    return tuple(token for letter in text for token in chat.encode_text(letter))


def output_of(chat: ModelChat, draft: ResponseDraft, said: str) -> list[Body]:
    """The items that a client gets for what the model said."""
    reader = chat.reply_reader(draft.tools, ToolChoice())
    output = OutputItems(draft.names)
    for piece in [*reader.feed(said), *reader.finish()]:
        list(output.add(piece))
    list(output.close())
    return output.items


def results_of(output: list[Body]) -> list[Body]:
    calls = [item for item in output if item["type"] == "function_call"]
    # Clients answer in the order in which their tools are done.
    return [
        {"type": "function_call_output", "call_id": call["call_id"], "output": f"done {number}"}
        for number, call in reversed(list(enumerate(calls)))
    ]


def test_the_recorded_call_is_found_in_the_turn_after_it(
    chat: ModelChat, store: ResponseStore
) -> None:
    second = recorded("codex0169-tool-02")
    place = next(n for n, i in enumerate(second["input"]) if i["type"] == "function_call")
    call = second["input"][place]
    first = second | {"input": second["input"][:place]}
    prompt = tokens_of(chat, parsed(first, store))
    written = {"arguments": json.loads(call["arguments"]), "name": call["name"]}
    reply = spelled(chat, f"<tool_call>{json.dumps(written)}</tool_call>\n")
    chat.remember_reply(prompt, reply)
    assert num_lost(prompt + reply, tokens_of(chat, parsed(second, store))) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("said", ["Done. \N{SNOWMAN} 雪だるま\n\n", TEXT_AND_CALLS, TEXT_CALL_TEXT])
@pytest.mark.parametrize("goes_on_by_id", [True, False])
def test_a_reply_is_found_in_the_turn_after_it(
    chat: ModelChat, store: ResponseStore, name: str, said: str, goes_on_by_id: bool
) -> None:
    body = recorded(name)
    draft = parsed(body, store)
    prompt = tokens_of(chat, draft)
    reply = spelled(chat, said)
    chat.remember_reply(prompt, reply)
    output = output_of(chat, draft, said)
    store.add(
        StoredResponse(
            response_id="resp_1",
            namespace="",
            body=b"{}",
            inputs=draft.inputs,
            outputs=tuple(stored_output(item) for item in output),
        )
    )
    new = [*results_of(output), {"type": "message", "role": "user", "content": "And now?"}]
    if goes_on_by_id:
        second = body | {"input": new, "previous_response_id": "resp_1"}
    else:
        second = body | {"input": [*body["input"], *output, *new]}
    assert num_lost(prompt + reply, tokens_of(chat, parsed(second, store))) == 0


def test_both_ways_to_go_on_are_one_prompt(chat: ModelChat, store: ResponseStore) -> None:
    body = recorded("codex0169-hello-01")
    draft = parsed(body, store)
    output = output_of(chat, draft, TEXT_AND_CALLS)
    assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
    assert output[2]["namespace"] == "multi_agent_v1"
    outputs = tuple(stored_output(item) for item in output)
    store.add(
        StoredResponse(
            response_id="resp_1", namespace="", body=b"{}", inputs=draft.inputs, outputs=outputs
        )
    )
    new = results_of(output)
    by_id = parsed(body | {"input": new, "previous_response_id": "resp_1"}, store)
    whole = parsed(body | {"input": [*body["input"], *output, *new]}, store)
    assert by_id.messages == whole.messages
    assert tokens_of(chat, by_id) == tokens_of(chat, whole)
