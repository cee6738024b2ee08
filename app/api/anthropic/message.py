"""A reply as Anthropic's message: its blocks, why it ended, and what it cost."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any

from app.api.draft import Thinking
from app.api.reply import Block, CallBlock, ReasoningBlock, Reply
from app.api.turns import Turn
from engine.request import Delta, FinishReason, Usage

_STOP_REASONS = {
    FinishReason.END_TURN: "end_turn",
    FinishReason.STOP_STRING: "stop_sequence",
    FinishReason.MAX_TOKENS: "max_tokens",
}


def usage_body(usage: Usage) -> dict[str, int]:
    """Token counts by Anthropic's convention: the prompt is the sum of the three input counts.

    Cache creation is what was computed and fills whole blocks, so that any agent can reuse it; the
    rest of what was computed is plain input.
    """
    return {
        "input_tokens": (
            usage.num_prompt_tokens - usage.num_cached_tokens - usage.num_stored_tokens
        ),
        "cache_creation_input_tokens": usage.num_stored_tokens,
        "cache_read_input_tokens": usage.num_cached_tokens,
        "output_tokens": usage.num_generated_tokens,
    }


def message_body(turn: Turn, usage: Usage) -> dict[str, Any]:
    """A message that has no content yet."""
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": turn.model_id,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_body(usage),
    }


def reply_body(turn: Turn, reply: Reply) -> dict[str, Any]:
    """A whole message."""
    thinking = turn.draft.thinking
    body = message_body(turn, reply.last.usage)
    body["content"] = [
        _block_body(block, thinking)
        for block in reply.blocks
        if not isinstance(block, ReasoningBlock) or thinking is not Thinking.OFF
    ]
    return body | ending(reply.last, has_calls=bool(reply.calls))


def _block_body(block: Block, thinking: Thinking) -> dict[str, Any]:
    if isinstance(block, CallBlock):
        return tool_use_body(block.call_id, block.name) | {
            "input": json.loads(block.arguments_json)
        }
    if isinstance(block, ReasoningBlock):
        thought = block.text if thinking is Thinking.SHOWN else ""
        return {"type": "thinking", "thinking": thought, "signature": signature_of(block.text)}
    return {"type": "text", "text": block.text}


def tool_use_body(call_id: str, name: str) -> dict[str, Any]:
    """The block of a call, without its arguments."""
    return {"type": "tool_use", "id": f"toolu_{call_id}", "name": name, "input": {}}


def signature_of(thought: str) -> str:
    """What stands for a signature: clients want one, and send it back; nobody reads it here."""
    digest = hashlib.blake2b(thought.encode(), digest_size=48)
    return base64.b64encode(digest.digest()).decode()


def ending(last: Delta, *, has_calls: bool) -> dict[str, Any]:
    """Why a reply ended. One that was cut off may have calls, and others that were lost."""
    reason = _STOP_REASONS[last.finish_reason or FinishReason.END_TURN]
    if has_calls and last.finish_reason is FinishReason.END_TURN:
        reason = "tool_use"
    return {"stop_reason": reason, "stop_sequence": last.stop_string}
