"""The messages of an Anthropic request, read block by block."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from app.api.draft import NO_IMAGES, canonical_json
from app.api.fields import Fields
from engine.messages import Message, Role, ToolCall, ToolSpec

BLOCK_SEPARATOR = "\n"
"""Stands between blocks that become one text."""

_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_UNSEEN = ("thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_result")


class Conversation:
    """Reads messages.

    A result may refer to a tool whose definition the prompt left out: it is told there, so that
    nothing before it changes.
    """

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        """Takes the tools that a result may refer to."""
        self._tools = {tool.name: tool for tool in tools}
        self._roles = {"user": self._user, "assistant": _assistant, "system": _system}

    def read(self, fields: Fields) -> Iterator[Message]:
        """What one message of the client's becomes.

        Raises:
            FieldError: Something in it is wrong, or is nothing that this model can read.
        """
        role = fields.required_text("role")
        if role not in self._roles:
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
        return self._roles[role](list(fields.children("content")))

    def _user(self, blocks: list[Fields]) -> Iterator[Message]:
        """Tool results become messages of their own, in the order in which the blocks came."""
        texts: list[str] = []
        for block in blocks:
            if block.required_text("type") == "tool_result":
                if texts:
                    yield Message(role=Role.USER, text=BLOCK_SEPARATOR.join(texts))
                    texts = []
                yield self._tool_result(block)
            else:
                texts.extend(_block_text(block))
        if texts:
            yield Message(role=Role.USER, text=BLOCK_SEPARATOR.join(texts))

    def _tool_result(self, block: Fields) -> Message:
        content = block.get("content")
        if content is None or isinstance(content, str):
            text = content or ""
        else:
            parts = block.children("content")
            text = BLOCK_SEPARATOR.join(self._result_text(part) for part in parts)
        return Message(
            role=Role.TOOL,
            text=text,
            tool_call_id=block.required_text("tool_use_id"),
            is_error=block.flag("is_error"),
        )

    def _result_text(self, part: Fields) -> str:
        """A part of a result. What the model cannot see is named, so that the agent goes on."""
        kind = part.required_text("type")
        if kind == "text":
            return part.required_text("text")
        if kind == "document" and _document_text(part) is not None:
            return _document_text(part) or ""
        if kind == "image":
            return f"[image left out: {NO_IMAGES}]"
        if kind == "search_result":
            return _search_result_text(part)
        if kind == "tool_reference":
            return self._definition(part)
        return (
            f"[{kind if _TYPE_NAME.match(kind) else 'block'} left out: this model reads text only]"
        )

    def _definition(self, part: Fields) -> str:
        tool = self._tools.get(part.required_text("tool_name"))
        if tool is None:
            raise part.error("tool_name", "is not the name of one of the tools of this request")
        about = canonical_json({"name": tool.name, "description": tool.description})
        return f'{about[:-1]},"parameters":{tool.parameters_json}}}'


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
    yield Message(role=Role.ASSISTANT, text=BLOCK_SEPARATOR.join(texts), tool_calls=tuple(calls))


def _tool_call(block: Fields) -> ToolCall:
    arguments = block.child("input")
    return ToolCall(
        call_id=block.required_text("id"),
        name=block.required_text("name"),
        arguments_json=canonical_json(arguments.values if arguments else {}),
    )


def _system(blocks: list[Fields]) -> Iterator[Message]:
    text = BLOCK_SEPARATOR.join(text for block in blocks for text in _block_text(block))
    if text:
        yield Message(role=Role.SYSTEM, text=text)


def _block_text(block: Fields) -> Iterator[str]:
    kind = block.required_text("type")
    if kind == "text":
        yield block.required_text("text")
    elif kind == "document":
        text = _document_text(block)
        if text is None:
            raise block.error("source", "this model reads documents of plain text only")
        yield text
    elif kind == "search_result":
        yield _search_result_text(block)
    elif kind == "image":
        raise block.error("type", NO_IMAGES)
    elif kind not in _UNSEEN and not kind.endswith("_tool_result"):
        raise block.error("type", "is not a kind of block that is known here")


def _search_result_text(block: Fields) -> str:
    head = (block.required_text("title"), block.required_text("source"))
    texts = (part.required_text("text") for part in block.children("content"))
    return BLOCK_SEPARATOR.join((*head, *texts))


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
    return BLOCK_SEPARATOR.join(parts)
