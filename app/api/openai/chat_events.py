"""A chat completion as OpenAI's stream of chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.api.errors import Dialect, error_body
from app.api.openai.logprobs import chat_logprobs_body
from app.api.openai.wire import DONE, FINISH_REASONS, PING, call_name, frame, usage_body
from app.api.sse import compact, quoted
from engine.pieces import CallArguments, CallEnd, CallStart, Piece, ReasoningPiece, TextPiece
from engine.request import Delta, FinishReason, Usage

CallPart = CallStart | CallArguments
CountTokens = Callable[[str], int]


def finish_reason(last: Delta, *, has_calls: bool) -> str:
    """Why a choice ended, in OpenAI's word."""
    if has_calls and last.finish_reason is not FinishReason.MAX_TOKENS:
        return "tool_calls"
    return FINISH_REASONS[last.finish_reason or FinishReason.END_TURN]


class ChatEvents:
    """Writes chat completion chunks; a ``ChoiceEncoder`` (app/api/openai/choice_events.py)."""

    def __init__(
        self, model_id: str, request_id: str, count: CountTokens, *, include_usage: bool
    ) -> None:
        """Makes a writer for one request.

        Args:
            model_id: The model that answers.
            request_id: The request's id, for the log.
            count: Tells how many tokens a text is.
            include_usage: Whether the stream ends with a usage chunk.
        """
        self._request_id = request_id
        self._count = count
        self._include_usage = include_usage
        self._head = b"data: " + compact(frame(model_id, "chatcmpl", "chat.completion.chunk"))[:-1]
        # A stream that ends with a usage chunk says so in every other chunk.
        self._tail = b'}],"usage":null}\n\n' if include_usage else b"}]}\n\n"
        self._choice_heads: dict[int, bytes] = {}
        self._with_calls: set[int] = set()
        self._reasoning: list[str] = []

    def start(self, number: int) -> bytes:
        """The chunk that names the role."""
        head = b',"choices":[{"index":' + str(number).encode() + b',"delta":{'
        self._choice_heads[number] = self._head + head
        return self._chunk(number, b'"role":"assistant","content":""')

    def pieces(self, number: int, pieces: Sequence[Piece], deltas: Sequence[Delta]) -> bytes:
        """One chunk for each piece that has a place in this protocol.

        How likely tokens were goes with the last piece that was completed meanwhile.
        """
        fields = [self._fields(number, piece) for piece in pieces if not isinstance(piece, CallEnd)]
        rows = [row for delta in deltas for row in delta.logprobs]
        if not rows:
            return b"".join([self._chunk(number, field) for field in fields])
        *others, last = fields or [b""]
        logprobs = compact(chat_logprobs_body(rows))
        chunks = [self._chunk(number, field) for field in others]
        return b"".join([*chunks, self._chunk(number, last, logprobs=logprobs)])

    def _fields(self, number: int, piece: TextPiece | ReasoningPiece | CallPart) -> bytes:
        """What a piece is in the ``delta`` of a chunk."""
        if isinstance(piece, TextPiece):
            return b'"content":' + quoted(piece.text)
        if isinstance(piece, ReasoningPiece):
            self._reasoning.append(piece.text)
            return b'"reasoning_content":' + quoted(piece.text)
        # Clients put repeated names and ids together, so both go out once only.
        if isinstance(piece, CallStart):
            self._with_calls.add(number)
            head = (
                b'"id":'
                + quoted(call_name(piece.call_id))
                + b',"type":"function","function":{"name":'
            )
            fields = head + quoted(piece.name) + b',"arguments":""}'
        else:
            fields = b'"function":{"arguments":' + quoted(piece.json_text) + b"}"
        return b'"tool_calls":[{"index":' + str(piece.index).encode() + b"," + fields + b"}]"

    def _chunk(
        self, number: int, fields: bytes, *, logprobs: bytes = b"", reason: bytes = b"null"
    ) -> bytes:
        told = b',"logprobs":' + logprobs if logprobs else b""
        head = self._choice_heads[number]
        return head + fields + b"}" + told + b',"finish_reason":' + reason + self._tail

    def finish(self, number: int, last: Delta) -> bytes:
        """Why the choice ended."""
        reason = finish_reason(last, has_calls=number in self._with_calls)
        return self._chunk(number, b"", reason=quoted(reason))

    def close(self, usage: Usage) -> bytes:
        """The usage where asked for, and the end mark."""
        if not self._include_usage:
            return DONE
        body = compact(usage_body(usage, self._count("".join(self._reasoning))))
        return self._head + b',"choices":[],"usage":' + body + b"}\n\n" + DONE

    def error(self, error: Exception) -> bytes:
        """A chunk that is an error, and the end mark."""
        body = error_body(error, Dialect.OPENAI, self._request_id)
        return b"data: " + compact(body) + b"\n\n" + DONE

    def ping(self) -> bytes:
        """A comment: this protocol has no event for it."""
        return PING
