"""What chat completions and legacy completions have in common on the wire."""

from __future__ import annotations

import time
import uuid
from typing import Any

from app.version import __version__
from engine.request import FinishReason, Usage

FINISH_REASONS = {
    FinishReason.END_TURN: "stop",
    FinishReason.STOP_STRING: "stop",
    FinishReason.MAX_TOKENS: "length",
}
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
_FINGERPRINT = f"stoker_{__version__}"


def call_name(call_id: str) -> str:
    """The id of a tool call as OpenAI's look."""
    return f"call_{call_id}"


def usage_body(usage: Usage, num_reasoning_tokens: int = 0) -> dict[str, Any]:
    """Token counts by OpenAI's convention: cached tokens are part of the prompt's.

    Args:
        usage: The counts.
        num_reasoning_tokens: Generated tokens that were thought aloud.
    """
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_generated_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": num_reasoning_tokens},
    }


def frame(model_id: str, prefix: str, kind: str) -> dict[str, Any]:
    """The fields that every reply, and every chunk of one, begins with.

    Args:
        model_id: The model that answers.
        prefix: Beginning of its id.
        kind: Its ``object``.
    """
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model_id,
        "system_fingerprint": _FINGERPRINT,
    }
