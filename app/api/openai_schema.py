"""The OpenAI Chat Completions request, read into a protocol-neutral turn."""

from __future__ import annotations

from collections.abc import Iterator

from app.api.draft import NO_IMAGES, TurnDraft, canonical_json, max_tokens_of, sampling_of
from app.api.fields import Fields
from engine.messages import Message, Role, ToolCall, ToolSpec

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_TEXT_PARTS = {"text": "text", "refusal": "refusal"}


def parse_chat_completion(body: Fields) -> TurnDraft:
    """Reads ``POST /v1/chat/completions``.

    Raises:
        InvalidRequestError: A field is missing or wrong, or asks for what is not there; the
            error names it.
    """
    _refuse_unsupported(body)
    messages = tuple(_message(fields) for fields in body.children("messages"))
    if not messages:
        raise body.error("messages", "at least one message is required")
    stream_options = body.child("stream_options")
    max_tokens = max_tokens_of(body, "max_completion_tokens")
    return TurnDraft(
        model=body.text("model") or "",
        messages=messages,
        tools=tuple(_tools(body)),
        sampling=sampling_of(body, body.texts("stop")),
        max_tokens=max_tokens_of(body, "max_tokens") if max_tokens is None else max_tokens,
        stream=body.flag("stream"),
        include_usage=stream_options is not None and stream_options.flag("include_usage"),
    )


def _refuse_unsupported(body: Fields) -> None:
    """Refuses what would give another answer than the one asked for."""
    if body.small_integer("n", 1) != 1:
        raise body.error("n", "only one choice per request; send the request several times")
    if body.flag("logprobs"):
        raise body.error("logprobs", "are not offered here")
    bias = body.child("logit_bias")
    if bias is not None and bias.values:
        raise body.error("logit_bias", "is not offered here")


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


def _tools(body: Fields) -> Iterator[ToolSpec]:
    for tool in body.children("tools"):
        if tool.required_text("type") != "function":
            continue  # runs on the vendor's servers, which are not here
        function = tool.child("function")
        if function is None:
            raise tool.error("function", "field required")
        parameters = function.child("parameters")
        yield ToolSpec(
            name=function.required_text("name"),
            description=function.text("description") or "",
            parameters_json=canonical_json(
                parameters.values if parameters else {"type": "object", "properties": {}}
            ),
        )
