"""Replies are taken apart in the same way however they come, and half a call is never one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.messages import ToolChoice, ToolSpec, ToolUse
from engine.models.call_format import WRITTEN_CALLS
from engine.models.call_syntax import (
    CallSyntax,
    FamilyCalls,
    JsonCalls,
    NotACallError,
    UnfinishedCallError,
    WrittenCall,
)
from engine.models.offered_calls import OfferedCalls
from engine.models.reasoning_format import ReasoningFormat
from engine.models.reply_reader import MAX_FAILED_CALLS, MarkedReader
from engine.pieces import (
    CallArguments,
    CallEnd,
    CallStart,
    Piece,
    ReasoningPiece,
    ReplyReader,
    TextPiece,
)

THINK = ReasoningFormat("<think>", "</think>")
TOOLS = tuple(
    ToolSpec(name=name, description="", parameters_json='{"type":"object"}')
    for name in ("bash", "read")
)
AUTO = ToolChoice()
LIST = '{"name": "bash", "arguments": {"command": "ls"}}'
READ = '{"name": "read", "arguments": {}}'


def reader(
    choice: ToolChoice = AUTO, *, syntax: CallSyntax | None = None, opens_reasoning: bool = False
) -> MarkedReader:
    numbers = itertools.count(1)
    calls = OfferedCalls(
        syntax or JsonCalls(WRITTEN_CALLS), TOOLS, choice, lambda: f"c{next(numbers)}"
    )
    return MarkedReader(THINK, calls, opens_reasoning=opens_reasoning)


def told(pieces: Sequence[Piece]) -> list[str]:
    """Pieces in short, neighbours of one kind as one."""
    lines: list[str] = []
    for piece in pieces:
        line = line_of(piece)
        kind = line.partition(" ")[0]
        if lines and kind in ("text", "thought") and lines[-1].startswith(f"{kind} "):
            lines[-1] += line.removeprefix(f"{kind} ")
        else:
            lines.append(line)
    return lines


def line_of(piece: Piece) -> str:
    match piece:
        case TextPiece(text):
            return f"text {text}"
        case ReasoningPiece(text):
            return f"thought {text}"
        case CallStart(index, call_id, name):
            return f"call {index} {call_id} {name}"
        case CallArguments(index, json_text):
            return f"arguments {index} {json_text}"
        case CallEnd(index):
            return f"end {index}"


def read(each: ReplyReader, *texts: str) -> list[str]:
    pieces = [piece for text in texts for piece in each.feed(text)]
    return told([*pieces, *each.finish()])


def call_of(index: int, name: str, arguments: str) -> list[str]:
    head = f"call {index} c{index + 1} {name}"
    return [head, f"arguments {index} {arguments}", f"end {index}"]


BASH = call_of(0, "bash", '{"command": "ls"}')


def test_text_before_a_call_ends_without_the_space_between_them() -> None:
    said = f"Let me look.\n\n<tool_call>\n{LIST}\n</tool_call>\n"
    assert read(reader(), said) == ["text Let me look.", *BASH]


def test_several_calls_and_no_text() -> None:
    said = f"\n<tool_call>{LIST}</tool_call>\n<tool_call>\n{READ}</tool_call>"
    assert read(reader(), said) == [*BASH, *call_of(1, "read", "{}")]


def test_text_behind_a_call_is_a_text_of_its_own() -> None:
    said = f"One <tool_call>{LIST}</tool_call>\n Two \n"
    assert read(reader(), said) == ["text One", *BASH, "text Two \n"]


def test_reasoning_is_told_from_the_text_behind_it() -> None:
    said = "<think>\nHm. \nSo.\n</think>\n\nYes."
    assert read(reader(), said) == ["thought Hm. \nSo.", "text Yes."]
    assert read(reader(), "<think>\n\n</think>\n\nYes.") == ["text Yes."]


def test_a_prompt_may_have_opened_the_reasoning() -> None:
    said = f"Hm.\n</think>\n<tool_call>{LIST}</tool_call>"
    assert read(reader(opens_reasoning=True), said) == ["thought Hm.", *BASH]
    assert read(reader(opens_reasoning=True), "Hm. </thin") == ["thought Hm. </thin"]


def test_reasoning_between_calls_is_reasoning() -> None:
    said = f"<think>A</think><tool_call>{LIST}</tool_call>\n<think>B</think>C"
    assert read(reader(), said) == ["thought A", *BASH, "thought B", "text C"]


def test_a_mark_of_reasoning_inside_a_text_is_text() -> None:
    said = "The tag <think> opens, </think> closes."
    assert read(reader(), said) == [f"text {said}"]


@pytest.mark.parametrize(
    "said",
    [
        "<tool_call>\nno json\n</tool_call>",
        '<tool_call>{"name": "erase", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "bash", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "bash", "arguments": {"x": NaN}}</tool_call>',
        '<tool_call>{"name": "bash", "arguments": {"x": "\\ud800"}}</tool_call>',
        '<tool_call>["bash"]</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        f"<tool_call>{LIST} and more</tool_call>",
        f"<tool_call>{LIST[:-1]}",
        f"Hm. <tool_call>{LIST[:20]}",
        "  <tool_call>",
        "<tool_ca",
        "<tool_call>" * 3,
        "<tool_call>" + "[" * 100_000 + "</tool_call>",
    ],
    ids=lambda said: said[:40],
)
def test_what_is_no_call_is_text_to_the_letter(said: str) -> None:
    assert read(reader(), said) == [f"text {said}"]


@pytest.mark.parametrize("error", [NotACallError, UnfinishedCallError])
@pytest.mark.parametrize(
    "said",
    ["<call>" * 1000 + "</call>", "<call>" + "</call>" * 1000],
    ids=["opened often", "closed often"],
)
def test_a_reply_that_is_full_of_marks_is_not_tried_for_ever(
    said: str, error: type[NotACallError]
) -> None:
    syntax = NoCalls(error)
    assert read(reader(syntax=syntax), said) == [f"text {said}"]
    assert 1 <= syntax.num_tried <= MAX_FAILED_CALLS


@dataclass
class NoCalls:
    """A syntax in which nothing is a call."""

    error: type[NotACallError]
    open_mark: str = "<call>"
    close_mark: str = "</call>"
    num_tried: int = 0

    def parse(self, body: str, tools: Sequence[ToolSpec]) -> tuple[WrittenCall, ...]:
        self.num_tried += 1
        raise self.error("no call")


def test_a_call_behind_what_is_none_is_found() -> None:
    said = f"<tool_call>hm <tool_call>{LIST}</tool_call>"
    assert read(reader(), said) == ["text <tool_call>hm", *BASH]


def test_a_closing_mark_inside_a_string_closes_nothing() -> None:
    command = "echo '</tool_call>'\nls"
    call = json.dumps({"name": "bash", "arguments": {"command": command}})
    written = f"<tool_call>{call}</tool_call>"
    expected = call_of(0, "bash", json.dumps({"command": command}))
    assert read(reader(), written) == expected
    assert read(reader(), written.replace("\\n", "\n")) == expected


def test_a_complete_call_needs_no_closing_mark_at_the_end() -> None:
    assert read(reader(), f"<tool_call>\n{LIST}\n") == BASH


def test_arguments_may_be_json_inside_json() -> None:
    call = json.dumps({"name": "bash", "arguments": '{"command": "ls"}'})
    assert read(reader(), f"<tool_call>{call}</tool_call>") == BASH


def test_where_no_calls_may_be_made_they_are_text() -> None:
    said = f"<tool_call>{LIST}</tool_call>"
    assert read(MarkedReader(THINK, None), said) == [f"text {said}"]


def test_only_the_tool_that_has_to_be_called_may_be() -> None:
    choice = ToolChoice(use=ToolUse.REQUIRED, names=("read",))
    said = f"<tool_call>{LIST}</tool_call>"
    assert read(reader(choice), said) == [f"text {said}"]
    assert read(reader(choice), f"<tool_call>{READ}</tool_call>") == call_of(0, "read", "{}")


def test_calls_after_the_first_are_left_out_where_one_is_wanted() -> None:
    said = f"<tool_call>{LIST}</tool_call><tool_call>{READ}</tool_call>"
    assert read(reader(ToolChoice(is_parallel=False)), said) == BASH


def test_text_is_not_held_back_for_longer_than_it_may_become_a_mark() -> None:
    each = reader()
    shown = ["".join(told(each.feed(letter))) for letter in "a <b <tool_x"]
    held_back = [""] * 6
    assert shown == ["text a", "", "", "text  <b", *held_back, "", "text  <tool_x"]


def test_a_family_without_a_closing_mark_calls_to_the_end() -> None:
    family = FamilyCalls("[CALLS]", "", lambda body, tools: json.loads(body))
    both = [*BASH, *call_of(1, "read", "{}")]
    assert read(reader(syntax=family), f"Hm. [CALLS] [{LIST}, {READ}]") == ["text Hm.", *both]
    assert read(reader(syntax=family), f"[CALLS] [{LIST}") == [f"text [CALLS] [{LIST}"]


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            f"<tool_call>{LIST}</tool_call>",
            f"<tool_call>\n{READ}",
            '<tool_call>{"name": "read", "arguments": {"x": "',
            '"}}',
            "<tool",
            "call>",
            "</",
            " ",
            "\n\n",
            "word",
            "<",
        ]
    ),
    max_size=8,
).map("".join)
CUTS = st.lists(st.integers(0, 1000), max_size=8)


@settings(max_examples=600, deadline=None)
@given(text=FRAGMENTS, cuts=CUTS, opens=st.booleans())
@example(text=f"<think>a</think> <tool_call>{LIST}</tool_call>", cuts=[3, 20], opens=False)
def test_the_pieces_are_the_same_however_the_text_is_cut(
    text: str, cuts: list[int], opens: bool
) -> None:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(edges)]
    whole = read(reader(opens_reasoning=opens), text)
    assert read(reader(opens_reasoning=opens), *parts) == whole
    assert read(reader(opens_reasoning=opens), *text) == whole


@settings(max_examples=300, deadline=None)
@given(text=FRAGMENTS)
def test_no_letter_of_a_reply_that_is_only_text_is_lost(text: str) -> None:
    lines = read(reader(), text)
    if "think>" not in text and all(line.startswith("text ") for line in lines):
        assert "".join(line.removeprefix("text ") for line in lines) == text
