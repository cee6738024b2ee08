"""What a chat template tells of a model's replies. Looked at as text, never rendered."""

from __future__ import annotations

_TOOL_SIGNS = (
    ("<function=", "xml"),
    ("<tool_call>", "hermes"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|python_tag|>", "llama3"),
    ("<start_function_call>", "gemma"),
    ("<|channel|>", "harmony"),
)
_REASONING_SIGNS = (("<think>", "think"), ("</think>", "think"), ("<|channel|>", "harmony"))
_OTHER = "other"


def tool_format(template: str) -> str:
    """How the model writes tool calls: a name, ``other``, or empty where it is told of no tools."""
    found = next((name for sign, name in _TOOL_SIGNS if sign in template), "")
    return found or (_OTHER if "tools" in template else "")


def reasoning_format(template: str) -> str:
    """How the model marks what it thinks before it answers; empty where the template tells not."""
    return next((name for sign, name in _REASONING_SIGNS if sign in template), "")
