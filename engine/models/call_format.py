"""How a model writes a tool call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallFormat:
    """A call is a JSON object between two marks, the function's name before its arguments.

    Attributes:
        open_mark: Stands before the object.
        close_mark: Stands behind it.
        padding: White space that the model's own template writes on both sides of the object.
        name_key: Key of the function's name.
        arguments_key: Key of the arguments, which are an object too.
    """

    open_mark: str
    close_mark: str
    padding: str = "\n"
    name_key: str = "name"
    arguments_key: str = "arguments"


WRITTEN_CALLS = CallFormat("<tool_call>", "</tool_call>")
"""What Stoker asks for, and writes itself, where a template knows nothing of tools.

Hermes, Qwen 2.5 and Qwen 3 models were trained on the same.
"""

_KEYS = ('"name": ', '"arguments": ')
_OTHER_BODIES = ("<function=", "<arg_key>", "<parameter=")
"""Between the same marks, some families write no JSON."""


def call_format_of(template_source: str) -> CallFormat | None:
    """How a chat template writes tool calls.

    Args:
        template_source: Its Jinja source.

    Returns:
        The format; None where the template has one of its own that is not a JSON object between
        marks.
    """
    if "tools" not in template_source and "tool_calls" not in template_source:
        return WRITTEN_CALLS
    marks = (WRITTEN_CALLS.open_mark, WRITTEN_CALLS.close_mark)
    is_json = all(part in template_source for part in (*marks, *_KEYS))
    if is_json and not any(part in template_source for part in _OTHER_BODIES):
        return WRITTEN_CALLS
    return None
