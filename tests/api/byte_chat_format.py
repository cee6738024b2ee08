"""A chat format for tests that need no model: one token for each byte."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from engine.constraint import Constraint
from engine.messages import Message, RenderedPrompt, ToolChoice, ToolSpec
from engine.models.call_format import WRITTEN_CALLS
from engine.models.call_syntax import JsonCalls
from engine.models.offered_calls import offered_calls
from engine.models.reasoning_format import ReasoningFormat
from engine.models.reply_reader import MarkedReader
from engine.pieces import ReplyReader
from engine.request import PromptPart

MAX_CONTEXT_TOKENS = 400_000
REASONING = ReasoningFormat("<think>", "</think>")


class ByteChatFormat:
    """One token per byte of the conversation."""

    def __init__(self, max_context_tokens: int = MAX_CONTEXT_TOKENS) -> None:
        self._max_context_tokens = max_context_tokens
        self.wishes: list[tuple[ToolChoice, str | None, bool]] = []
        self.constraint: Constraint | None = None
        self.threads: list[str] = []
        self.defaults: dict[str, float] = {}

    @property
    def max_context_tokens(self) -> int:
        return self._max_context_tokens

    @property
    def vocabulary_size(self) -> int:
        return 256

    @property
    def fingerprint(self) -> str:
        return ""

    @property
    def sampling_defaults(self) -> dict[str, float]:
        return self.defaults

    @property
    def tells_reasoning(self) -> bool:
        return True

    def render_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        namespace: str = "",
    ) -> RenderedPrompt:
        self.threads.append(threading.current_thread().name)
        lines = [
            f"tool {tool.name} {tool.parameters_json}" for tool in tools if not tool.is_deferred
        ]
        for message in messages:
            calls = "".join(f"<{call.name} {call.arguments_json}>" for call in message.tool_calls)
            lines.append(f"{message.role}: {message.text}{calls}")
        return RenderedPrompt(
            token_ids=self.encode_text("\n".join([*lines, "assistant:"])),
            parts=(PromptPart("message 1 (user) to reply", 0),),
        )

    def reply_reader(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        *,
        opens_reasoning: bool = False,
    ) -> ReplyReader:
        calls = offered_calls(JsonCalls(WRITTEN_CALLS), tools, choice)
        return MarkedReader(REASONING, calls, opens_reasoning=opens_reasoning)

    def constrain(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        response_schema_json: str | None,
        *,
        any_object: bool = False,
        opens_reasoning: bool = False,
    ) -> Constraint | None:
        self.wishes.append((choice, response_schema_json, any_object))
        return self.constraint

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def spell(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode()
