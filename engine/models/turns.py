"""Turns a conversation into what a chat template can take, losing nothing of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, takewhile
from typing import Any

from engine.errors import InvalidRequestError
from engine.messages import Message, Role, ToolCall, ToolSpec
from engine.models.call_format import WRITTEN_CALLS
from engine.models.template import TemplateAbilities, Turn

LABELS = "labels"
"""The field of a turn that says what it was made of; not for templates."""

_JOIN = "\n\n"
_ID_CHARS = 9
_OPEN, _CLOSE = WRITTEN_CALLS.open_mark, WRITTEN_CALLS.close_mark
_TOOLS_INTRO = """# Tools

You may call the functions described between <tools> and </tools>, one JSON object per line:
<tools>
"""
_TOOLS_OUTRO = f"""
</tools>

To call one, write its name and arguments as JSON between {_OPEN} and {_CLOSE}:
{_OPEN}
{{"name": "function name", "arguments": {{"argument": "value"}}}}
{_CLOSE}"""


def parse_turns(messages: Sequence[Message]) -> list[Turn]:
    """Messages as template turns, tool calls parsed, results named after their calls.

    Clients send the results of one set of calls in any order, and write the arguments of a call
    anew: both become the same whatever a client does.
    """
    names = {call.call_id: call.name for message in messages for call in message.tool_calls}
    turns = [_parse_turn(message, names) for message in _in_order_of_calls(messages)]
    num_leading = _num_leading_system(turns)
    for number, turn in enumerate(turns, start=1 - num_leading):
        label = "system" if number < 1 else f"message {number} ({turn['role']})"
        turn[LABELS] = (label,)
    return turns


def with_prefix(messages: Sequence[Message], prefix: str) -> Sequence[Message]:
    """A conversation whose system prompt begins with a text.

    Args:
        messages: The conversation, with a system prompt first or without one.
        prefix: The text; empty for none.
    """
    if not prefix:
        return messages
    if messages[0].role is not Role.SYSTEM:
        return [Message(role=Role.SYSTEM, text=prefix), *messages]
    text = _JOIN.join(filter(None, (prefix, messages[0].text)))
    return [replace(messages[0], text=text), *messages[1:]]


def without_labels(turns: Iterable[Turn]) -> list[Turn]:
    """The turns as templates may see them."""
    return [{name: turn[name] for name in turn if name != LABELS} for turn in turns]


def _in_order_of_calls(messages: Sequence[Message]) -> Iterator[Message]:
    places: dict[str | None, int] = {}

    def place(message: Message) -> int:
        return places.get(message.tool_call_id, len(places))

    for is_result, run in groupby(messages, lambda message: message.role is Role.TOOL):
        if is_result:
            yield from sorted(run, key=place)
            continue
        for message in run:
            yield message
            places = {call.call_id: number for number, call in enumerate(message.tool_calls)}


def _parse_turn(message: Message, names: dict[str, str]) -> Turn:
    turn: Turn = {"role": message.role.value, "content": message.text}
    if message.tool_calls:
        turn["tool_calls"] = [_parse_call(call) for call in message.tool_calls]
    if message.role is Role.TOOL:
        turn["tool_call_id"] = _short_id(message.tool_call_id or "")
        turn["name"] = names.get(message.tool_call_id or "", "")
        if message.is_error:
            turn["content"] = f"Error: {message.text}"
    return turn


def _short_id(call_id: str) -> str:
    """An id as every template takes it: Mistral's want nine letters or digits."""
    if len(call_id) == _ID_CHARS and call_id.isalnum():
        return call_id
    return hashlib.blake2b(call_id.encode()).hexdigest()[:_ID_CHARS]


def _parse_call(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments_json or "{}")
    except ValueError:
        arguments = call.arguments_json
    if not isinstance(arguments, dict):  # a model's slip must not make its own past unreadable
        arguments = {"input": arguments}
    return {
        "type": "function",
        "id": _short_id(call.call_id),
        "function": {"name": call.name, "arguments": _sorted(arguments)},
    }


def _sorted(value: Any) -> Any:
    """Nested JSON data with the keys of its objects in order."""
    return json.loads(canonical_json(value))


def parse_tools(tools: Sequence[ToolSpec]) -> list[Turn]:
    """Tool definitions as templates know them.

    Raises:
        InvalidRequestError: The parameters of a tool are not JSON.
    """
    return [{"type": "function", "function": _parse_function(tool)} for tool in tools]


def _parse_function(tool: ToolSpec) -> dict[str, Any]:
    try:
        parameters = json.loads(tool.parameters_json or "{}")
    except ValueError:
        raise InvalidRequestError(f"the parameters of tool {tool.name!r} are not JSON") from None
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": _sorted(parameters),
    }


def fit_turns(
    turns: Sequence[Turn], tools: Sequence[Turn], abilities: TemplateAbilities
) -> tuple[list[Turn], list[Turn]]:
    """Rewrites what the template cannot take as something it can.

    Args:
        turns: The conversation.
        tools: Tool definitions.
        abilities: What the template takes as it is.

    Returns:
        The turns and the tools to render; no tools where they became text.
    """
    fitted, native_tools = list(turns), list(tools)
    if not abilities.tools:
        fitted = _tools_as_text(fitted, native_tools)
        native_tools = []
    if not abilities.late_system:
        fitted = [
            _as_reminder(turn) if index > 0 and turn["role"] == "system" else turn
            for index, turn in enumerate(_merge_leading_system(fitted))
        ]
    if not abilities.system and fitted and fitted[0]["role"] == "system":
        fitted[0] = {**fitted[0], "role": "user"}
        fitted = _merge_roles(fitted)
    if not abilities.repeated_roles:
        fitted = _merge_roles(fitted)
    return fitted, native_tools


def _tools_as_text(turns: Sequence[Turn], tools: Sequence[Turn]) -> list[Turn]:
    """Definitions into the system text, calls and results into tagged text."""
    written = _merge_results(_without_calls(turn) for turn in turns)
    if not tools:
        return written
    lines = "\n".join(canonical_json(tool["function"]) for tool in tools)
    section = _TOOLS_INTRO + lines + _TOOLS_OUTRO
    if written and written[0]["role"] == "system":
        text = section + _JOIN + written[0]["content"]
        labels = ("tools", *written[0][LABELS])
        return [{**written[0], "content": text, LABELS: labels}, *written[1:]]
    return [{"role": "system", "content": section, LABELS: ("tools",)}, *written]


def _without_calls(turn: Turn) -> Turn:
    """The turn with its tool calls, or its tool result, written out as text."""
    if turn["role"] == "tool":
        text = f"<tool_response>\n{turn['content']}\n</tool_response>"
        return {"role": "tool", "content": text, LABELS: turn[LABELS]}
    if "tool_calls" not in turn:
        return turn
    calls = [
        f"{_OPEN}\n{canonical_json(call['function'])}\n{_CLOSE}" for call in turn["tool_calls"]
    ]
    text = "\n".join([turn["content"], *calls] if turn["content"] else calls)
    return {"role": turn["role"], "content": text, LABELS: turn[LABELS]}


def _merge_results(turns: Iterable[Turn]) -> list[Turn]:
    """Runs of tool results become one user turn each."""
    merged: list[Turn] = []
    in_results = False
    for turn in turns:
        if turn["role"] != "tool":
            merged.append(turn)
            in_results = False
        elif in_results:
            merged[-1] = _joined(merged[-1], turn, "\n")
        else:
            merged.append({**turn, "role": "user"})
            in_results = True
    return merged


def _as_reminder(turn: Turn) -> Turn:
    text = f"<system-reminder>\n{turn['content']}\n</system-reminder>"
    return {**turn, "role": "user", "content": text}


def _joined(first: Turn, second: Turn, separator: str) -> Turn:
    text = separator.join(filter(None, (first["content"], second["content"])))
    return {**first, "content": text, LABELS: first[LABELS] + second[LABELS]}


def _merge_leading_system(turns: Sequence[Turn]) -> list[Turn]:
    num_leading = _num_leading_system(turns)
    return [*_merge_roles(turns[:num_leading]), *turns[num_leading:]]


def _num_leading_system(turns: Sequence[Turn]) -> int:
    return sum(1 for _ in takewhile(lambda turn: turn["role"] == "system", turns))


def _merge_roles(turns: Sequence[Turn]) -> list[Turn]:
    """Joins neighbours of one role; tool results stay apart, for each answers its own call."""
    merged: list[Turn] = []
    for turn in turns:
        if not merged or merged[-1]["role"] != turn["role"] or turn["role"] == "tool":
            merged.append(turn)
            continue
        last = merged[-1]
        joined = _joined(last, turn, _JOIN)
        calls = [*last.get("tool_calls", ()), *turn.get("tool_calls", ())]
        merged[-1] = {**joined, "tool_calls": calls} if calls else joined
    return merged


def canonical_json(value: object) -> str:
    """One text per value: sorted keys, no spaces to spare, no escapes that need not be."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
