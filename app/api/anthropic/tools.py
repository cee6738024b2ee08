"""What an Anthropic request says of tools: those it offers, and whether to call one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.api.draft import AS_THE_MODEL_LIKES, canonical_json
from app.api.fields import Fields
from engine.messages import ToolChoice, ToolSpec, ToolUse

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")
_USES = {
    "auto": ToolUse.AUTO,
    "any": ToolUse.REQUIRED,
    "tool": ToolUse.REQUIRED,
    "none": ToolUse.NONE,
}


def parse_tools(body: Fields) -> tuple[ToolSpec, ...]:
    """The tools that are the client's to run.

    Raises:
        FieldError: One is not as it has to be.
    """
    return tuple(_tools(body))


def _tools(body: Fields) -> Iterator[ToolSpec]:
    names: set[str] = set()
    for tool in body.children("tools"):
        if tool.text("type") not in (None, "custom"):
            continue  # runs on the vendor's servers, which are not here
        name = tool.required_text("name")
        if not _NAME.match(name):
            raise tool.error("name", "must be 1 to 128 letters, digits, underscores or hyphens")
        if name in names:
            raise tool.error("name", f"is the name of another tool too: {name}")
        names.add(name)
        schema = tool.child("input_schema")
        yield ToolSpec(
            name=name,
            description=tool.text("description") or "",
            parameters_json=canonical_json(schema.values if schema else {"type": "object"}),
            is_deferred=tool.flag("defer_loading"),
        )


def parse_tool_choice(body: Fields, tools: tuple[ToolSpec, ...]) -> ToolChoice:
    """Whether to call a tool.

    Args:
        body: The request.
        tools: What it offers.

    Raises:
        FieldError: It asks for a call that cannot be made.
    """
    choice = body.child("tool_choice")
    if choice is None:
        return AS_THE_MODEL_LIKES
    kind = choice.required_text("type")
    if kind not in _USES:
        raise choice.error("type", f"must be one of {', '.join(_USES)}")
    use, name = _USES[kind], choice.text("name") or ""
    if kind == "tool":
        name = choice.required_text("name")
        if name not in {tool.name for tool in tools}:
            raise choice.error("name", "is not the name of one of the tools of this request")
    if use is ToolUse.REQUIRED and not tools:
        raise choice.error("type", "asks for a call, but the request offers no tools")
    is_parallel = not choice.flag("disable_parallel_tool_use")
    return ToolChoice(use=use, names=(name,) if kind == "tool" else (), is_parallel=is_parallel)
