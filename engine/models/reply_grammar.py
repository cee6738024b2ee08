"""The grammar of a reply as text: free text, tool calls, JSON, and reasoning before them.

The language is llguidance's dialect of Lark
(https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.models.call_format import CallFormat
from engine.models.reasoning_format import ReasoningFormat

SPACE = r"[ ]?|\n[ \t]{0,24}"
"""White space between two tokens of JSON: enough to indent, too little to get lost in."""

_ANY_TEXT = "/(?s:.*)/"


@dataclass(frozen=True, slots=True)
class CallRule:
    """One tool that may be called.

    Attributes:
        name: The function's name.
        schema: JSON schema of its arguments, an object's.
        is_lenient: Whether keywords that cannot be enforced are passed over.
    """

    name: str
    schema: Mapping[str, Any]
    is_lenient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyForm:
    """How a model writes what is not plain text.

    Attributes:
        calls: How it writes tool calls; None where that is not known.
        reasoning: How it marks reasoning; None where it does not.
        special_ids: Its special tokens by their text.
    """

    calls: CallFormat | None = None
    reasoning: ReasoningFormat | None = None
    special_ids: Mapping[str, int] = field(default_factory=dict)


class ReplyGrammar:
    """Grows the rules of one grammar.

    Args:
        form: How the model writes.
        opens_reasoning: Whether the prompt has opened a block of reasoning.
    """

    def __init__(self, form: ReplyForm, *, opens_reasoning: bool = False) -> None:
        self._form = form
        self._opens_reasoning = opens_reasoning
        self._rules: list[str] = [f"SPACE: /{SPACE}/", r"PAD: /[ \n]{0,2}/"]
        self._has_text = False

    def free(self, calls: Sequence[CallRule], *, is_parallel: bool) -> str:
        """Text, and where a call's opening mark stands, one of the calls.

        Args:
            calls: The tools; none of them means that the mark must not occur.
            is_parallel: Whether several calls may be made; else the first ends the reply.
        """
        text = self._text()
        if not calls:
            return self._whole(text)
        call = self._call(calls)
        head = self._head(text)
        body = f"({head} {call})* {text}" if is_parallel else f"{text} | {head} {call}"
        return self._whole(body)

    def fixed(
        self,
        calls: Sequence[CallRule],
        schema: Mapping[str, Any] | None = None,
        *,
        is_parallel: bool = True,
    ) -> str:
        """Calls or JSON, at once.

        Args:
            calls: The tools.
            schema: Schema of the JSON; None where there must be a call.
            is_parallel: Whether several calls may be made.
        """
        bodies = []
        if calls:
            call = f"{self._mark(self._call_format.open_mark)} {self._call(calls)}"
            bodies.append(f"{call} (PAD {call})*" if is_parallel else call)
        if schema is not None:
            self._rules.append(f"json: {_json_rule(schema)}")
            bodies.append("json")
        return self._whole(" | ".join(bodies))

    @property
    def _call_format(self) -> CallFormat:
        assert self._form.calls is not None
        return self._form.calls

    def _whole(self, body: str) -> str:
        self._rules.append(f"body: {body}")
        start = f"start: {self._reasoning()}body"
        return "\n".join(["%llguidance {}", start, *self._rules, ""])

    def _reasoning(self) -> str:
        """What may, or must, stand before the body."""
        reasoning = self._form.reasoning
        if reasoning is None:
            return ""
        opening = "" if self._opens_reasoning else self._mark(reasoning.open_mark)
        closing = self._mark(reasoning.close_mark)
        if reasoning.close_mark in self._form.special_ids:
            self._rules.append(f"THOUGHT: {_ANY_TEXT}")
            self._rules.append(f"reasoning: {opening} THOUGHT {closing} GAP")
        else:
            self._rules.append(f"THOUGHT: {opening} ({_without(reasoning.close_mark)}) {closing}")
            self._rules.append("reasoning: THOUGHT GAP")
        self._rules.append(r"GAP: /\n{0,3}/")
        is_due = self._opens_reasoning and not self._has_text
        return "reasoning " if is_due else "reasoning? "

    def _text(self) -> str:
        """Text in which no call is opened; special tokens are never part of text."""
        self._has_text = True
        calls = self._form.calls
        if calls is None or calls.open_mark in self._form.special_ids:
            self._rules.append(f"TEXT: {_ANY_TEXT}")
        else:
            self._rules.append(f"TEXT: {_without(calls.open_mark)}")
        return "TEXT"

    def _head(self, text: str) -> str:
        """Text up to and with the mark that opens a call."""
        mark = self._mark(self._call_format.open_mark)
        if self._call_format.open_mark in self._form.special_ids:
            return f"{text} {mark}"
        # One terminal: text that could still become the mark must not end before it is complete.
        self._rules.append(f"HEAD: ({_without(self._call_format.open_mark)}) {mark}")
        return "HEAD"

    def _call(self, calls: Sequence[CallRule]) -> str:
        """One call behind its opening mark, with its closing mark."""
        for number, call in enumerate(calls):
            self._rules.append(f"BEGIN_{number}: {self._beginning(call.name)}")
            rule = _json_rule(call.schema, is_lenient=call.is_lenient)
            self._rules.append(f"arguments_{number}: {rule}")
        bodies = (f'BEGIN_{number} arguments_{number} SPACE "}}"' for number in range(len(calls)))
        self._rules.append("object: " + " | ".join(bodies))
        self._rules.append(f"call: PAD object PAD {self._mark(self._call_format.close_mark)}")
        return "call"

    def _beginning(self, name: str) -> str:
        """A call's object up to its arguments."""
        calls = self._call_format
        key, value, arguments = map(_json, (calls.name_key, name, calls.arguments_key))
        parts = ("{", key, ":", value, ",", arguments, ":")
        return " SPACE ".join(map(_json, parts)) + " SPACE"

    def _mark(self, mark: str) -> str:
        token_id = self._form.special_ids.get(mark)
        return _json(mark) if token_id is None else f"<[{token_id}]>"


def _json_rule(schema: Mapping[str, Any], *, is_lenient: bool = False) -> str:
    options: dict[str, Any] = {"whitespace_pattern": SPACE}
    if is_lenient:
        options |= {"lenient": True, "coerce_one_of": True}
    # A client's own options would let white space grow without end.
    return "%json " + _json({**schema, "x-guidance": options})


def _without(mark: str) -> str:
    """Text in which a mark does not occur."""
    literal = re.escape(mark).replace("/", r"\/")
    return f"{_ANY_TEXT} & ~/(?s:.*){literal}(?s:.*)/"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
