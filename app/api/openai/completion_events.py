"""A legacy completion as OpenAI's stream of chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.api.errors import Dialect, error_body
from app.api.openai.completion_schema import CompletionDraft
from app.api.openai.logprobs import completion_logprobs_body
from app.api.openai.wire import DONE, FINISH_REASONS, PING, frame, usage_body
from app.api.prepared import Prepared
from app.api.sse import compact
from engine.pieces import Piece, TextPiece
from engine.request import Delta, FinishReason, Usage


class CompletionEvents:
    """Writes text chunks; a ``ChoiceEncoder`` (app/api/openai/choice_events.py)."""

    def __init__(self, prepared: Prepared[CompletionDraft], request_id: str) -> None:
        """Makes a writer for one request.

        Args:
            prepared: The request.
            request_id: Its id, for the log.
        """
        self._draft = prepared.draft
        self._chat_format = prepared.chat_format
        self._request_id = request_id
        self._frame = frame(prepared.model_id, "cmpl", "text_completion")
        self._num_told: Counter[int] = Counter()
        """Characters of each choice whose tokens were told of."""

    def start(self, number: int) -> bytes:
        """The prompt, where the choice begins with it."""
        echo = self._draft.echo(number, self._chat_format)
        return self._chunk(number, echo) if echo else b""

    def pieces(self, number: int, pieces: Sequence[Piece], deltas: Sequence[Delta]) -> bytes:
        """One chunk of text, and how likely its tokens were where that was asked for."""
        text = "".join([piece.text for piece in pieces if isinstance(piece, TextPiece)])
        rows = [row for delta in deltas for row in delta.logprobs]
        if not text and not rows:
            return b""
        logprobs = None
        if rows:
            logprobs = completion_logprobs_body(rows, self._num_told[number])
            self._num_told[number] += sum(len(row.text) for row in rows)
        return self._chunk(number, text, logprobs)

    def finish(self, number: int, last: Delta) -> bytes:
        """Why the choice ended."""
        reason = FINISH_REASONS[last.finish_reason or FinishReason.END_TURN]
        return self._chunk(number, "", reason=reason)

    def _chunk(
        self,
        number: int,
        text: str,
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> bytes:
        choice = {"index": number, "text": text, "logprobs": logprobs, "finish_reason": reason}
        fields = self._frame | {"choices": [choice]}
        if self._draft.include_usage:
            fields["usage"] = None
        return b"data: " + compact(fields) + b"\n\n"

    def close(self, usage: Usage) -> bytes:
        """The usage where asked for, and the end mark."""
        if not self._draft.include_usage:
            return DONE
        fields = self._frame | {"choices": [], "usage": usage_body(usage)}
        return b"data: " + compact(fields) + b"\n\n" + DONE

    def error(self, error: Exception) -> bytes:
        """A chunk that is an error, and the end mark."""
        body = error_body(error, Dialect.OPENAI, self._request_id)
        return b"data: " + compact(body) + b"\n\n" + DONE

    def ping(self) -> bytes:
        """A comment: this protocol has no event for it."""
        return PING
