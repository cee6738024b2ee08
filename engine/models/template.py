"""A model's Jinja chat template: sandboxed rendering, and what the template can take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import InvalidRequestError, ModelLoadError

Turn = dict[str, Any]
"""One message as templates know it: ``role``, ``content``, and for tools ``tool_calls``,
``tool_call_id`` and ``name``."""

_RENDER_ERRORS = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
"""What a template raises: on purpose, or because it meets a conversation it was not made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateAbilities:
    """What a template renders without refusing or losing it; found by trying.

    Attributes:
        system: A system message at the start.
        late_system: System messages further on.
        repeated_roles: Several messages of one role in a row.
        tools: Tool definitions, calls and results.
    """

    system: bool
    late_system: bool
    repeated_roles: bool
    tools: bool


class ChatTemplate:
    """A compiled chat template. Thread-safe.

    Args:
        source: Jinja source.
        variables: What templates expect beside the messages: ``bos_token`` and the like.

    Raises:
        ModelLoadError: The source is not valid Jinja.
    """

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except (TemplateError, RecursionError) as error:
            raise ModelLoadError(f"the model's chat template is not valid: {error}") from error
        self.source = source
        self._variables = dict(variables)
        self.abilities = TemplateAbilities(
            system=self._keeps([_turn("system", "S1"), _turn("user", "U1")]),
            late_system=self._keeps(_LATE_SYSTEM),
            repeated_roles=self._keeps(_REPEATED_ROLES),
            tools=self._keeps(_TOOL_TURNS, _PROBE_TOOLS),
        )

    def render(
        self, turns: Sequence[Turn], tools: Sequence[Turn] = (), *, open_reply: bool = True
    ) -> str:
        """The prompt text of a conversation.

        Args:
            turns: The messages.
            tools: OpenAI-style function definitions.
            open_reply: End where the assistant's reply starts.

        Raises:
            InvalidRequestError: The template refuses the conversation.
        """
        try:
            return self._template.render(
                self._variables,
                messages=list(turns),
                tools=list(tools) or None,
                add_generation_prompt=open_reply,
            )
        except _RENDER_ERRORS as error:
            raise InvalidRequestError(
                f"the model's chat template refuses the conversation: {error}"
            ) from error

    @property
    def why_refused(self) -> str:
        """Why the plainest conversation is refused; empty if it is not."""
        try:
            self.render([_turn("user", "U1")])
        except InvalidRequestError as error:
            return str(error)
        return ""

    def spell_call(self) -> str:
        """A conversation that ends in a call of ``PROBE_NAME``; empty where it is refused."""
        return self._spell(_TOOL_TURNS[:2])

    def spell_reply(self) -> str:
        """A conversation that ends in a reply of nothing but text; empty where it is refused."""
        return self._spell([_turn("user", "U1"), _turn("assistant", "A1")])

    def _spell(self, turns: Sequence[Turn]) -> str:
        try:
            return self.render(turns, open_reply=False)
        except InvalidRequestError:
            return ""

    def _keeps(self, turns: Sequence[Turn], tools: Sequence[Turn] = ()) -> bool:
        """Whether every marked text of a conversation survives rendering, in order."""
        try:
            text = self.render(turns, tools)
        except InvalidRequestError:
            return False
        marks = [tool["function"]["name"] for tool in tools]
        for turn in turns:
            marks += [call["function"]["name"] for call in turn.get("tool_calls", ())]
            marks += [turn["content"]] if turn["content"] else []
        position = 0
        for mark in marks:
            position = text.find(mark, position) + len(mark)
            if position < len(mark):
                return False
        return True


def _turn(role: str, content: str, **more: object) -> Turn:
    return {"role": role, "content": content, **more}


_LATE_SYSTEM = [
    _turn("user", "U1"),
    _turn("system", "S1"),
    _turn("assistant", "A1"),
    _turn("user", "U2"),
    _turn("system", "S2"),
]
_REPEATED_ROLES = [
    _turn("user", "U1"),
    _turn("user", "U2"),
    _turn("assistant", "A1"),
    _turn("assistant", "A2"),
    _turn("user", "U3"),
]
PROBE_NAME = "probe_tool"
"""The function that a template is tried with."""

PROBE_ARGUMENTS = '{"x": "X1"}'
"""Its arguments."""

_PROBE_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": PROBE_NAME,
            "description": "D1",
            "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
        },
    }
]
_PROBE_CALL = {
    "type": "function",
    "id": "probe1234",
    "function": {"name": PROBE_NAME, "arguments": json.loads(PROBE_ARGUMENTS)},
}
_TOOL_TURNS = [
    _turn("user", "U1"),
    _turn("assistant", "", tool_calls=[_PROBE_CALL]),
    _turn("tool", "R1", tool_call_id="probe1234", name=PROBE_NAME),
]


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The ``tojson`` filter of chat templates; unlike Jinja's own it does not escape for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


class _GenerationTag(Extension):
    """Accepts ``{% generation %}``, which marks a reply for training and renders as its body."""

    tags = {"generation"}  # noqa: RUF012  # declared so by Jinja

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)
