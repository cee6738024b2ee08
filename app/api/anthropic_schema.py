"""The Anthropic Messages request, read into a protocol-neutral turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from app.api.draft import NO_IMAGES, TurnDraft, canonical_json, max_tokens_of, sampling_of
from app.api.fields import Fields
from engine.messages import Message, Role, ToolCall, ToolSpec

BILLING_PREFIX = "x-anthropic-billing-header"
"""Claude Code's first system block: it differs between conversations and tells a model nothing."""

_BLOCK_SEPARATOR = "\n"
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_UNSEEN = ("thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_result")


def parse_messages(body: Fields) -> TurnDraft:
    """Reads ``POST /v1/messages``, and ``count_tokens``, which has the same fields.

    Raises:
        InvalidRequestError: A field is missing or wrong; the error names it.
    """
    turns = [message for fields in body.children("messages") for message in _message(fields)]
    if not turns:
        raise body.error("messages", "at least one message is required")
    system = _system_text(body)
    prompt = [Message(role=Role.SYSTEM, text=system)] if system else []
    return TurnDraft(
        model=body.text("model") or "",
        messages=(*prompt, *turns),
        tools=tuple(_tools(body)),
        sampling=sampling_of(body, body.texts("stop_sequences")),
        max_tokens=max_tokens_of(body, "max_tokens"),
        stream=body.flag("stream"),
    )


def _system_text(body: Fields) -> str:
    if isinstance(body.get("system"), str):
        return body.required_text("system")
    blocks = [block.required_text("text") for block in body.children("system")]
    return _BLOCK_SEPARATOR.join(text for text in blocks if not text.startswith(BILLING_PREFIX))


def _tools(body: Fields) -> Iterator[ToolSpec]:
    for tool in body.children("tools"):
        if tool.text("type") not in (None, "custom"):
            continue  # runs on the vendor's servers, which are not here
        schema = tool.child("input_schema")
        yield ToolSpec(
            name=tool.required_text("name"),
            description=tool.text("description") or "",
            parameters_json=canonical_json(schema.values if schema else {"type": "object"}),
        )


def _message(fields: Fields) -> Iterator[Message]:
    role = fields.required_text("role")
    if role not in _ROLES:
        raise fields.error("role", "must be user, assistant or system")
    content = fields.get("content")
    if isinstance(content, str):
        is_said = content or role != Role.SYSTEM
        return iter((Message(role=Role(role), text=content),) if is_said else ())
    if not isinstance(content, list):
        raise fields.error("content", "must be a string or a list of blocks")
    if not content and role == Role.USER:
        # Claude Code sends system messages without content to carry settings of one turn, and
        # an assistant that was interrupted before its first word has said nothing.
        raise fields.error("content", "must not be empty")
    return _ROLES[role](list(fields.children("content")))


def _user(blocks: list[Fields]) -> Iterator[Message]:
    """Tool results become messages of their own, in the order in which the blocks came."""
    texts: list[str] = []
    for block in blocks:
        if block.required_text("type") == "tool_result":
            if texts:
                yield Message(role=Role.USER, text=_BLOCK_SEPARATOR.join(texts))
                texts = []
            yield _tool_result(block)
        else:
            texts.extend(_block_text(block))
    if texts:
        yield Message(role=Role.USER, text=_BLOCK_SEPARATOR.join(texts))


def _assistant(blocks: list[Fields]) -> Iterator[Message]:
    """What the model said: neighbouring texts are pieces of one, in whatever way they were cut."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    follows_text = False
    for block in blocks:
        is_text = block.required_text("type") == "text"
        if block.get("type") == "tool_use":
            calls.append(_tool_call(block))
        elif is_text and follows_text:
            texts[-1] += block.required_text("text")
        else:
            texts.extend(_block_text(block))
        follows_text = is_text
    yield Message(role=Role.ASSISTANT, text=_BLOCK_SEPARATOR.join(texts), tool_calls=tuple(calls))


def _tool_call(block: Fields) -> ToolCall:
    arguments = block.child("input")
    return ToolCall(
        call_id=block.required_text("id"),
        name=block.required_text("name"),
        arguments_json=canonical_json(arguments.values if arguments else {}),
    )


def _system(blocks: list[Fields]) -> Iterator[Message]:
    text = _BLOCK_SEPARATOR.join(text for block in blocks for text in _block_text(block))
    if text:
        yield Message(role=Role.SYSTEM, text=text)


_ROLES: dict[str, Callable[[list[Fields]], Iterator[Message]]] = {
    "user": _user,
    "assistant": _assistant,
    "system": _system,
}


def _tool_result(block: Fields) -> Message:
    content = block.get("content")
    if content is None or isinstance(content, str):
        text = content or ""
    else:
        text = _BLOCK_SEPARATOR.join(_result_text(part) for part in block.children("content"))
    return Message(
        role=Role.TOOL,
        text=text,
        tool_call_id=block.required_text("tool_use_id"),
        is_error=block.flag("is_error"),
    )


def _result_text(part: Fields) -> str:
    """A part of a tool result. What the model cannot see is named, so that the agent goes on."""
    kind = part.required_text("type")
    if kind == "text":
        return part.required_text("text")
    if kind == "document" and _document_text(part) is not None:
        return _document_text(part) or ""
    if kind == "image":
        return f"[image left out: {NO_IMAGES}]"
    return f"[{kind if _TYPE_NAME.match(kind) else 'block'} left out: this model reads text only]"


def _block_text(block: Fields) -> Iterator[str]:
    kind = block.required_text("type")
    if kind == "text":
        yield block.required_text("text")
    elif kind == "document":
        text = _document_text(block)
        if text is None:
            raise block.error("source", "this model reads documents of plain text only")
        yield text
    elif kind == "image":
        raise block.error("type", NO_IMAGES)
    elif kind not in _UNSEEN and not kind.endswith("_tool_result"):
        raise block.error("type", "is not a kind of block that is known here")


def _document_text(block: Fields) -> str | None:
    """The text of a document block; None where it has none (a PDF, say)."""
    source = block.child("source")
    if source is None:
        raise block.error("source", "field required")
    kind = source.text("type")
    if kind == "text":
        text = source.required_text("data")
    elif kind == "content":
        text = _content_source_text(source)
    else:
        return None
    title = block.text("title")
    return f"{title}\n{text}" if title else text


def _content_source_text(source: Fields) -> str:
    if isinstance(source.get("content"), str):
        return source.required_text("content")
    parts = [text for block in source.children("content") for text in _block_text(block)]
    return _BLOCK_SEPARATOR.join(parts)
