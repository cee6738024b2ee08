"""The request of a chat completion, read into a turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.api.draft import NO_IMAGES, TurnDraft, max_tokens_of
from app.api.fields import Fields
from app.api.openai.forms import chat_form
from app.api.openai.sampling import (
    chat_logprobs,
    includes_usage,
    num_choices,
    openai_sampling,
)
from app.api.openai.tools import chat_tool_choice, chat_tools, with_own_names
from engine.messages import Message, Role, ToolCall

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_OLD_FIELDS = ("functions", "function_call")
_TEXT_PARTS = {"text": "text", "refusal": "refusal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDraft(TurnDraft):
    """A chat completion that was asked for.

    Attributes:
        num_choices: Replies to its conversation.
        include_usage: Whether its stream ends with a usage chunk.
    """

    num_choices: int = 1
    include_usage: bool = False


def parse_chat_completion(body: Fields) -> ChatDraft:
    """Reads ``POST /v1/chat/completions``.

    Raises:
        InvalidRequestError: A field is missing or wrong, or asks for what is not there; the
            error names it.
    """
    for name in _OLD_FIELDS:
        if body.get(name) is not None:
            raise body.error(name, "is the older form; send tools and tool_choice")
    messages = tuple(_message(fields) for fields in body.children("messages"))
    if not messages:
        raise body.error("messages", "at least one message is required")
    tools = with_own_names(body, chat_tools(body))
    form = chat_form(body)
    max_tokens = max_tokens_of(body, "max_completion_tokens")
    return ChatDraft(
        model=body.text("model") or "",
        messages=messages,
        tools=tools,
        tool_choice=chat_tool_choice(body, tools),
        response_schema_json=form.schema_json,
        any_object=form.any_object,
        sampling=openai_sampling(body, chat_logprobs(body)),
        max_tokens=max_tokens_of(body, "max_tokens") if max_tokens is None else max_tokens,
        stream=body.flag("stream"),
        num_choices=num_choices(body),
        include_usage=includes_usage(body),
    )


def _message(fields: Fields) -> Message:
    role = _ROLES.get(fields.required_text("role"))
    if role is None:
        raise fields.error("role", f"must be one of {', '.join(_ROLES)}")
    calls = tuple(_tool_calls(fields)) if role is Role.ASSISTANT else ()
    return Message(
        role=role,
        text=_content(fields, role),
        tool_calls=calls,
        tool_call_id=_call_id(fields) if role is Role.TOOL else None,
    )


def _call_id(fields: Fields) -> str:
    if fields.get("role") == "function":  # the older form names the function instead
        return fields.required_text("name")
    return fields.required_text("tool_call_id")


def _content(fields: Fields, role: Role) -> str:
    content = fields.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        if role is Role.ASSISTANT:
            return fields.text("refusal") or ""
        raise fields.error("content", "field required")
    if not isinstance(content, list):
        raise fields.error("content", "must be a string or a list of parts")
    # What a client has from the model is one text, in whatever way it was cut.
    separator = "" if role is Role.ASSISTANT else "\n"
    return separator.join(_part_text(part, role) for part in fields.children("content"))


def _part_text(part: Fields, role: Role) -> str:
    kind = part.required_text("type")
    if kind in _TEXT_PARTS:
        return part.required_text(_TEXT_PARTS[kind])
    if kind == "image_url":
        if role is Role.TOOL:
            return f"[image left out: {NO_IMAGES}]"
        raise part.error("type", NO_IMAGES)
    raise part.error("type", "this model reads text only")


def _tool_calls(fields: Fields) -> Iterator[ToolCall]:
    for call in fields.children("tool_calls"):
        function = call.child("function")
        if function is None:
            raise call.error("function", "field required")
        yield ToolCall(
            call_id=call.required_text("id"),
            name=function.required_text("name"),
            arguments_json=function.text("arguments") or "{}",
        )
