"""The items of a response's input as the messages of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from app.api.draft import NO_IMAGES
from app.api.fields import Fields
from app.api.openai.tools import FunctionName
from engine.messages import Message, Role, ToolCall

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
_TEXT_PARTS = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
}
_SEPARATOR = "\n"
_UNSEEN = frozenset(
    {
        "reasoning",
        "web_search_call",
        "file_search_call",
        "computer_call",
        "computer_call_output",
        "code_interpreter_call",
        "image_generation_call",
        "tool_search_call",
        "tool_search_output",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
    }
)
"""Reasoning of earlier turns, and what ran on the vendor's servers: no part of the prompt."""


def messages_of(items: Iterable[Fields]) -> list[Message]:
    """A conversation in messages.

    Neighbouring items of the assistant that belong together, its text and its calls, are one
    message, as they are one reply.

    Raises:
        FieldError: An item is not known, or not as it has to be.
    """
    conversation = _Conversation()
    for item in items:
        conversation.add(item)
    return conversation.messages()


class _Conversation:
    """Messages so far, and the assistant's message that may still get calls."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._adders: dict[str, Callable[[Fields], None]] = {
            "message": self._add_message,
            "function_call": self._add_call,
            "function_call_output": self._add_result,
        }

    def add(self, item: Fields) -> None:
        """Takes the next item."""
        kind = item.text("type") or "message"
        adder = self._adders.get(kind)
        if adder is not None:
            adder(item)
        elif kind not in _UNSEEN:
            raise item.error("type", "is not a kind of item that is known here")

    def messages(self) -> list[Message]:
        """Everything so far."""
        self._close()
        return self._messages

    def _add_message(self, item: Fields) -> None:
        role = _ROLES.get(item.required_text("role"))
        if role is None:
            raise item.error("role", f"must be one of {', '.join(_ROLES)}")
        text = _content(item, "content", role)
        if role is Role.ASSISTANT:
            if not self._calls:  # text after calls goes on in the reply that made them
                self._close()
            self._texts.append(text)
        else:
            self._close()
            self._messages.append(Message(role=role, text=text))

    def _add_call(self, item: Fields) -> None:
        name = FunctionName(item.required_text("name"), item.text("namespace") or "")
        call = ToolCall(
            call_id=item.required_text("call_id"),
            name=name.for_model,
            arguments_json=item.text("arguments") or "{}",
        )
        self._calls.append(call)

    def _add_result(self, item: Fields) -> None:
        self._close()
        text = _content(item, "output", Role.TOOL)
        call_id = item.required_text("call_id")
        self._messages.append(Message(role=Role.TOOL, text=text, tool_call_id=call_id))

    def _close(self) -> None:
        if self._texts or self._calls:
            message = Message(
                role=Role.ASSISTANT,
                text=_SEPARATOR.join(self._texts),
                tool_calls=tuple(self._calls),
            )
            self._messages.append(message)
        self._texts, self._calls = [], []


def _content(item: Fields, name: str, role: Role) -> str:
    content = item.get(name)
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise item.error(name, "must be a string or a list of parts")
    # What a client has from the model is one text, in whatever way it was cut.
    separator = "" if role is Role.ASSISTANT else _SEPARATOR
    return separator.join(_part_text(part, role) for part in item.children(name))


def _part_text(part: Fields, role: Role) -> str:
    kind = part.required_text("type")
    if kind in _TEXT_PARTS:
        return part.required_text(_TEXT_PARTS[kind])
    if kind == "input_image":
        if role is Role.TOOL:
            return f"[image left out: {NO_IMAGES}]"
        raise part.error("type", NO_IMAGES)
    raise part.error("type", "this model reads text only")
