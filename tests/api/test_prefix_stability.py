"""Recorded conversations, turn by turn: what was computed for one turn is found by the next.

The prompts are the real ones of the bundled model's template and tokenizer. A turn leaves its
prompt and its reply in the cache; ``num_lost`` is what of that the next prompt does not begin with.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest

from app.api.anthropic.schema import parse_messages
from app.api.fields import parse_object
from app.api.openai.chat_schema import parse_chat_completion
from engine.cache.block import BLOCK_TOKENS
from engine.messages import RenderedPrompt
from engine.models.chat import ModelChat

FOLDER = Path(__file__).parent / "clients"
NAMES = sorted(p.stem for p in FOLDER.glob("*.json") if not p.stem.startswith("codex"))
Body = dict[str, Any]
Rewrite = Callable[[Body], None]


@pytest.fixture(scope="module")
def chat(bundled_model_dir: Path) -> ModelChat:
    """A chat format that remembers the replies of all these tests, as a server's does."""
    return ModelChat(bundled_model_dir)


def recorded(name: str) -> Body:
    """The body of a recorded request, with the path it was sent to."""
    request = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    body: Body = request["body"] | {"path": request["path"].partition("?")[0]}
    return body


def render(chat: ModelChat, body: Body) -> RenderedPrompt:
    parse = parse_chat_completion if "completions" in body["path"] else parse_messages
    draft = parse(parse_object(json.dumps(body).encode()))
    return chat.render_chat(draft.messages, draft.tools)


def up_to(body: Body, num_messages: int) -> Body:
    return body | {"messages": body["messages"][:num_messages]}


def replies_in(body: Body) -> list[int]:
    """Which messages are the assistant's."""
    return [n for n, message in enumerate(body["messages"]) if message["role"] == "assistant"]


def turns_of(body: Body) -> Iterator[tuple[Body, str, Body]]:
    """The turns of a conversation: the request, what was replied, and the request after it."""
    places = replies_in(body)
    for start, end in zip(places, [*places[1:], len(body["messages"])], strict=True):
        yield up_to(body, start), said_in(body["messages"][start]), up_to(body, end)


def said_in(message: Body) -> str:
    """A reply as a model may write it: calls in tags, keys in an order of its own."""
    content = message["content"]
    blocks: list[Body] = (
        content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    )
    pieces = [block["text"] for block in blocks if block["type"] == "text" and block["text"]]
    calls: list[tuple[str, Body]] = [
        (b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"
    ]
    functions = [call["function"] for call in message.get("tool_calls", ())]
    calls += [(function["name"], json.loads(function["arguments"])) for function in functions]
    for name, arguments in calls:
        written = json.dumps({"name": name, "arguments": dict(reversed(arguments.items()))})
        pieces.append(f"<tool_call>{written}</tool_call>")
    return "\n".join(pieces) + "\n"


def usual(chat: ModelChat, text: str) -> tuple[int, ...]:
    return chat.encode_text(text)


def spelled(chat: ModelChat, text: str) -> tuple[int, ...]:
    return tuple(token for letter in text for token in chat.encode_text(letter))


Spell = Callable[[ModelChat, str], tuple[int, ...]]
SPELLINGS = pytest.mark.parametrize("spell", [usual, spelled])


def num_lost(stored: tuple[int, ...], prompt: tuple[int, ...]) -> int:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(stored, prompt, strict=False))
    return len(stored) - sum(1 for _ in same)


def follow(chat: ModelChat, first: Body, said: str, second: Body, spell: Spell) -> int:
    """Has a turn answered and the next one asked; tokens that were computed in vain."""
    prompt = render(chat, first).token_ids
    generated = spell(chat, said)
    chat.remember_reply(prompt, generated)
    return num_lost(prompt + generated, render(chat, second).token_ids)


@SPELLINGS
@pytest.mark.parametrize("name", [name for name in NAMES if replies_in(recorded(name))])
def test_the_next_turn_of_a_recorded_conversation_finds_everything(
    chat: ModelChat, name: str, spell: Spell
) -> None:
    turns = list(turns_of(recorded(name)))
    assert turns
    for first, said, second in turns:
        assert follow(chat, first, said, second, spell) == 0


@SPELLINGS
@pytest.mark.parametrize(
    "names",
    [
        ("cc-continue-01", "cc-continue-02", "cc-continue-03"),
        ("cc-continue-full-01", "cc-continue-full-02"),
        ("cc-bash-roundtrip-01", "cc-bash-roundtrip-02"),
        ("cc-subagents-01", "cc-subagents-04"),
    ],
)
def test_requests_that_were_recorded_one_after_the_other(
    chat: ModelChat, names: tuple[str, ...], spell: Spell
) -> None:
    bodies = [recorded(name) for name in names]
    for first, second in pairwise(bodies):
        said = said_in(second["messages"][replies_in(second)[-1]])
        assert follow(chat, first, said, second, spell) == 0


@SPELLINGS
@pytest.mark.parametrize("name", [name for name in NAMES if "count" not in recorded(name)["path"]])
def test_one_more_question_finds_everything(chat: ModelChat, name: str, spell: Spell) -> None:
    first = recorded(name)
    reply = {"role": "assistant", "content": "Done. \N{SNOWMAN} 雪だるま"}
    question = {"role": "user", "content": "And now \N{FIRE}?"}
    second = first | {"messages": [*first["messages"], reply, question]}
    assert follow(chat, first, f"\n{reply['content']}\n\n", second, spell) == 0


def test_sub_agents_share_their_tools_and_system_prompt(chat: ModelChat) -> None:
    one, other = (render(chat, recorded(f"cc-subagents-0{number}")) for number in (2, 3))
    start = one.parts[1].start_token
    assert [part.label for part in one.parts[:2]] == ["tools and system", "message 1 (user)"]
    assert one.parts[1] == other.parts[1]
    assert one.token_ids[:start] == other.token_ids[:start]
    assert start > 10 * BLOCK_TOKENS


# What clients change without meaning anything by it


def _objects(value: Any) -> Iterator[Body]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            yield from _objects(item)


def another_billing_header(body: Body) -> None:
    if isinstance(body.get("system"), list):
        header = {"type": "text", "text": "x-anthropic-billing-header: cc_version=9; cch=abc"}
        kept = [b for b in body["system"] if not b["text"].startswith("x-anthropic-billing")]
        body["system"] = [header, *kept]


def cache_marks_elsewhere(body: Body) -> None:
    for thing in _objects(body):
        thing.pop("cache_control", None)
    for message in body["messages"]:
        if isinstance(message["content"], list) and message["content"]:
            message["content"][0]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}


def single_texts_as_strings(body: Body) -> None:
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, list) and [block.get("type") for block in content] == ["text"]:
            message["content"] = content[0]["text"]


def strings_as_blocks(body: Body) -> None:
    for message in body["messages"]:
        if isinstance(message["content"], str) and message["role"] != "tool":
            message["content"] = [{"type": "text", "text": message["content"]}]


def replies_in_pieces(body: Body) -> None:
    for number in replies_in(body):
        content = body["messages"][number]["content"]
        if isinstance(content, list) and content[0]["type"] == "text":
            text = content[0]["text"]
            pieces = (text[: len(text) // 2], text[len(text) // 2 :])
            content[:1] = [{"type": "text", "text": piece} for piece in pieces]


def results_in_another_order(body: Body) -> None:
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, list) and content and content[0].get("type") == "tool_result":
            results = [block for block in content if block["type"] == "tool_result"]
            message["content"] = [*reversed(results), *content[len(results) :]]


def keys_in_another_order(body: Body) -> None:
    numbers = random.Random(7)
    for thing in _objects(body):
        items = list(thing.items())
        numbers.shuffle(items)
        thing.clear()
        thing.update(items)
        if isinstance(thing.get("arguments"), str):
            thing["arguments"] = json.dumps(json.loads(thing["arguments"]), indent=3)


def thinking_comes_back(body: Body) -> None:
    for number in replies_in(body):
        content = body["messages"][number]["content"]
        if isinstance(content, list) and "completions" not in body["path"]:
            content.insert(0, {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"})


def thinking_is_cleared(body: Body) -> None:
    for number in replies_in(body):
        content = body["messages"][number]["content"]
        if isinstance(content, list):
            content[:] = [block for block in content if block["type"] != "thinking"]


def settings_of_one_turn(body: Body) -> None:
    if "completions" not in body["path"]:
        body["messages"].append({"role": "system", "content": []})
        body["output_config"] = {"effort": "low"}
        body["context_management"] = {"edits": []}
    body["temperature"] = 0.5
    body["max_tokens"] = 77


REWRITES = [
    another_billing_header,
    cache_marks_elsewhere,
    single_texts_as_strings,
    strings_as_blocks,
    replies_in_pieces,
    results_in_another_order,
    keys_in_another_order,
    thinking_comes_back,
    thinking_is_cleared,
    settings_of_one_turn,
]


@pytest.mark.parametrize("rewrite", REWRITES)
def test_what_means_the_same_is_the_same_prompt(chat: ModelChat, rewrite: Rewrite) -> None:
    num_changed = 0
    for name in NAMES:
        body = recorded(name)
        rewritten = copy.deepcopy(body)
        rewrite(rewritten)
        num_changed += json.dumps(rewritten) != json.dumps(body)
        assert render(chat, rewritten) == render(chat, body), name
    assert num_changed


def test_results_may_come_in_any_order_while_the_calls_were_generated_here(
    chat: ModelChat,
) -> None:
    body = recorded("cc-5tools-mixed-errors-02")
    [(first, said, second)] = turns_of(body)
    rewritten = copy.deepcopy(second)
    results_in_another_order(rewritten)
    keys_in_another_order(rewritten)
    assert rewritten != second
    assert follow(chat, first, said, second, spelled) == 0
    assert render(chat, rewritten) == render(chat, second)


# What clients change and mean


def part_of(prompt: RenderedPrompt, token: int) -> str:
    return [part.label for part in prompt.parts if part.start_token <= token][-1]


def test_a_compaction_goes_on_from_the_conversation_and_then_starts_anew(chat: ModelChat) -> None:
    asked = recorded("cc-tui-compact-04")
    compacted = recorded("cc-tui-compact-05")
    before, after = render(chat, asked), render(chat, compacted)
    *_, (first, said, second) = turns_of(asked)
    assert follow(chat, first, said, second, usual) == 0

    num_same = len(before.token_ids) - num_lost(before.token_ids, after.token_ids)
    # Tools and system prompt are found; the first message that is another is named.
    assert part_of(after, num_same) == "message 1 (user)"
    assert num_same >= after.parts[1].start_token


def test_another_tool_is_named_as_the_difference(chat: ModelChat) -> None:
    body = recorded("cc-continue-full-02")
    changed = copy.deepcopy(body)
    changed["tools"][3]["description"] += " Now better."
    before, after = render(chat, body), render(chat, changed)
    num_same = len(before.token_ids) - num_lost(before.token_ids, after.token_ids)
    assert 0 < num_same < after.parts[1].start_token
    assert part_of(after, num_same) == "tools and system"


def test_a_message_that_was_edited_is_named_as_the_difference(chat: ModelChat) -> None:
    body = recorded("cc-continue-03")
    changed = copy.deepcopy(body)
    changed["messages"][2]["content"] = "another second question"
    before, after = render(chat, body), render(chat, changed)
    num_same = len(before.token_ids) - num_lost(before.token_ids, after.token_ids)
    assert part_of(after, num_same) == "message 3 (user)"


def test_an_interrupted_reply_goes_on_where_it_was(chat: ModelChat) -> None:
    first = recorded("cc-continue-01")
    prompt = render(chat, first).token_ids
    generated = spelled(chat, "I will first rea")
    chat.remember_reply(prompt, generated)
    partial = {"role": "assistant", "content": [{"type": "text", "text": "I will first rea"}]}
    question = {"role": "user", "content": "[interrupted] Go on."}
    empty = {"role": "assistant", "content": []}
    continued: list[list[Body]] = [[partial], [partial, question]]
    for messages in continued:
        second = first | {"messages": [*first["messages"], *messages]}
        assert num_lost(prompt + generated, render(chat, second).token_ids) == 0
    unspoken: list[list[Body]] = [[empty], [empty, question]]
    for messages in unspoken:
        second = first | {"messages": [*first["messages"], *messages]}
        assert num_lost(prompt, render(chat, second).token_ids) == 0
