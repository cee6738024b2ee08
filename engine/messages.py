"""A conversation, neutral of any protocol: what the API hands to a chat format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool the model may call.

    Attributes:
        name: Function name.
        description: What it does, for the model.
        parameters_json: JSON schema of its arguments, as canonical JSON text.
    """

    name: str
    description: str
    parameters_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call the model made in an earlier turn.

    Attributes:
        call_id: The client's id of the call.
        name: Function name.
        arguments_json: Arguments as JSON text.
    """

    call_id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message.

    Attributes:
        role: Who it is from.
        text: Its text; special tokens in it are plain text.
        tool_calls: Calls made by an assistant message.
        tool_call_id: For a tool message, the call it answers.
        is_error: For a tool message, whether the tool failed.
    """

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    is_error: bool = False


class ChatFormat(Protocol):
    """The text side of a loaded model. Thread-safe; never touches the device."""

    @property
    def max_context_tokens(self) -> int:
        """The model's context limit in tokens."""

    def render_chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> tuple[int, ...]:
        """Token ids of a conversation, ending where the assistant's reply starts.

        Raises:
            InvalidRequestError: The model's template refuses the conversation.
        """

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, for raw completions; special tokens in it are plain text."""
