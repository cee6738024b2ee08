"""A conversation, neutral of any protocol: what the API hands to a chat format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from engine.constraint import Constraint
from engine.pieces import ReplyReader
from engine.request import PromptPart


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
        is_deferred: Whether the prompt does not tell of it; something in the conversation may.
    """

    name: str
    description: str
    parameters_json: str
    is_deferred: bool = False


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


class ToolUse(StrEnum):
    """Whether a reply may call tools."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """What a client asked of the tools it offers.

    Attributes:
        use: Whether the reply may, must or must not call one.
        names: The only tools that may be called; empty for any of them.
        is_parallel: Whether one reply may make several calls.
    """

    use: ToolUse = ToolUse.AUTO
    names: tuple[str, ...] = ()
    is_parallel: bool = True


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


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A conversation as the model reads it.

    Attributes:
        token_ids: The prompt, ending where the assistant's reply starts.
        parts: Where its parts begin, in order, the first at token 0. Two parts that no special
            token separates are one, and the label names both. The first part that is neither
            tools nor system begins at the same token in every conversation with equal tools and
            system prompt.
        opens_reasoning: Whether the reply begins inside a block of reasoning.
    """

    token_ids: tuple[int, ...]
    parts: tuple[PromptPart, ...] = ()
    opens_reasoning: bool = False


class ChatFormat(Protocol):
    """The text side of a loaded model. Thread-safe; never touches the device."""

    @property
    def max_context_tokens(self) -> int:
        """The model's context limit in tokens."""

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are; their ids are the numbers below it."""

    @property
    def fingerprint(self) -> str:
        """Identity of the model whose tokens these are; empty where none is known."""

    @property
    def sampling_defaults(self) -> Mapping[str, float]:
        """Sampling fields of a request, with the values they have where it does not send them."""

    @property
    def tells_reasoning(self) -> bool:
        """Whether the model's reasoning is told from its text."""

    def render_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        namespace: str = "",
    ) -> RenderedPrompt:
        """A conversation as tokens, ending where the assistant's reply starts.

        Args:
            messages: The conversation, system prompt first.
            tools: What the model may call.
            namespace: Whose earlier replies may be recognised in it.

        Raises:
            InvalidRequestError: The model's template refuses the conversation.
        """

    def constrain(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        response_schema_json: str | None,
        *,
        any_object: bool = False,
        opens_reasoning: bool = False,
    ) -> Constraint | None:
        """What a reply has to fit.

        It may take some seconds the first time; later turns with the same arguments get what was
        made then. Where the model may choose whether to call a tool, keywords of the tools' schemas
        that cannot be enforced are passed over, and ``Constraint.gaps`` says which.

        Args:
            tools: What the model may call, as in ``render_chat``.
            choice: Whether it may, must or must not.
            response_schema_json: JSON schema that the reply fits, unless it is a call; None where
                it need not be JSON.
            any_object: Whether the reply, unless it is a call, is a JSON object of any kind.
            opens_reasoning: Whether the prompt has opened a block of reasoning.

        Returns:
            The constraint; None where any reply will do, or where the model writes calls in a form
            of its own and may choose whether to make one.

        Raises:
            InvalidRequestError: It cannot be enforced; the message names the tool or the schema.
        """

    def reply_reader(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        *,
        opens_reasoning: bool = False,
    ) -> ReplyReader:
        """What takes one reply apart into text, reasoning and tool calls.

        Args:
            tools: What the model may call; without any, a call is text.
            choice: Which of them, and how many times.
            opens_reasoning: Whether the prompt has opened a block of reasoning.
        """

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, for raw completions; special tokens in it are plain text."""

    def spell(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones included; broken characters are replaced."""
