"""How likely tokens were, in the shapes of both completion APIs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from engine.request import TokenLogprob


def chat_token(row: TokenLogprob) -> dict[str, Any]:
    """One token of a chat completion."""
    return _token(row) | {"top_logprobs": [_token(other) for other in row.top]}


def _token(row: TokenLogprob) -> dict[str, Any]:
    return {"token": row.text, "logprob": row.logprob, "bytes": list(row.token)}


def chat_logprobs_body(rows: Iterable[TokenLogprob]) -> dict[str, Any]:
    """The ``logprobs`` of a choice of a chat completion."""
    return {"content": [chat_token(row) for row in rows], "refusal": None}


def completion_logprobs_body(rows: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """The ``logprobs`` of a choice of a legacy completion.

    Args:
        rows: Its tokens.
        offset: Characters before the first of them.
    """
    offsets = []
    for row in rows:
        offsets.append(offset)
        offset += len(row.text)
    return {
        "tokens": [row.text for row in rows],
        "token_logprobs": [row.logprob for row in rows],
        "top_logprobs": [{other.text: other.logprob for other in row.top} for row in rows],
        "text_offset": offsets,
    }
