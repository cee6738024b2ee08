"""Streamed answers of any server that speaks chat completions, with the time of each piece."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.agents_client import AgentsClient, ServerError, refusal

ANSWER_LIMIT_S = 900.0
CHUNK_BYTES = 1 << 16
_PATH = "/v1/chat/completions"
_EVENT = b"data: {"

Messages = list[dict[str, str]]
"""A conversation: ``role`` and ``content`` of each message."""


@dataclass(slots=True)
class Answer:
    """One streamed answer.

    Attributes:
        sent_s: When the request was sent, monotonic seconds.
        pieces_s: When each piece came; of an answer without text, when it ended.
        num_prompt_tokens: Prompt tokens as the server counted them; 0 if it did not.
        num_tokens: Generated tokens as the server counted them, or else pieces.
        text: The answer.
    """

    sent_s: float = 0.0
    pieces_s: list[float] = field(default_factory=list)
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    text: str = ""

    @property
    def ttft_s(self) -> float:
        """Seconds to the first piece."""
        return self.pieces_s[0] - self.sent_s

    @property
    def end_s(self) -> float:
        """When the last piece came, monotonic seconds."""
        return self.pieces_s[-1]


@dataclass(frozen=True, slots=True)
class Question:
    """What one agent asks.

    Attributes:
        agent: Its name.
        messages: The conversation so far.
        max_tokens: Tokens of the answer, at most.
    """

    agent: str
    messages: Messages
    max_tokens: int


class ChatServer:
    """A server and the model that it is asked for."""

    def __init__(self, client: AgentsClient, model: str, key: str | None = None) -> None:
        """Connects to nothing yet.

        Args:
            client: Where it is.
            model: What it calls its model.
            key: Sent as a bearer token too, which is what other servers take.
        """
        self._client = client
        self._model = model
        self._key = key

    def ask(self, question: Question) -> Answer:
        """One greedy answer.

        Raises:
            StokerError: The server cannot be reached, refuses, or breaks off.
        """
        return self.ask_together([question])[0]

    def ask_together(self, questions: Sequence[Question]) -> list[Answer]:
        """All questions at once, each on a connection of its own; answers in their order.

        Raises:
            StokerError: The server cannot be reached, refuses, or breaks off.
        """
        calls = [_Call(self._client, self._body(each), self._key) for each in questions]
        for call in calls:
            call.start()
        for call in calls:
            call.join(ANSWER_LIMIT_S)
        return [call.answer() for call in calls]

    def _body(self, question: Question) -> bytes:
        body = {
            "model": self._model,
            "messages": question.messages,
            "max_tokens": question.max_tokens,
            "temperature": 0,
            "user": question.agent,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(body).encode()


class _Call(threading.Thread):
    """A request under way. Bytes are kept with their times and read when all have come."""

    def __init__(self, client: AgentsClient, body: bytes, key: str | None) -> None:
        super().__init__(name="stoker-bench", daemon=True)
        self._client = client
        self._connection = client.connected(ANSWER_LIMIT_S)
        self._body = body
        self._headers = client.headers("application/json")
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._received: list[tuple[float, bytes]] = []
        self._sent_s = 0.0
        self._error: Exception | None = None

    def run(self) -> None:
        """Asks and receives."""
        try:
            self._receive()
        except Exception as error:  # raised again in the thread that asked
            self._error = error
        finally:
            self._connection.close()

    def _receive(self) -> None:
        self._sent_s = time.monotonic()
        path = self._client.target(_PATH)
        self._connection.request("POST", path, self._body, self._headers)
        reply = self._connection.getresponse()
        if reply.status != http.client.OK:
            raise refusal(reply)
        while chunk := reply.read1(CHUNK_BYTES):
            self._received.append((time.monotonic(), chunk))

    def answer(self) -> Answer:
        """The answer, when the thread has ended.

        Raises:
            StokerError: The server refused, or broke off.
        """
        if isinstance(self._error, (OSError, http.client.HTTPException)):
            raise ServerError(f"the server broke off: {self._error}") from self._error
        if self._error is not None:
            raise self._error
        if self.is_alive():
            raise ServerError(f"an answer took longer than {ANSWER_LIMIT_S:.0f} s")
        answer = Answer(sent_s=self._sent_s)
        rest = b""
        for at_s, chunk in self._received:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(_EVENT):
                    _take(answer, at_s, line.removeprefix(b"data: "))
        if not answer.pieces_s:
            raise ServerError("the server streamed no answer")
        answer.num_tokens = answer.num_tokens or len(answer.pieces_s)
        return answer


def _take(answer: Answer, at_s: float, event_json: bytes) -> None:
    event = json.loads(event_json)
    usage = event.get("usage")
    if usage:
        answer.num_prompt_tokens = usage["prompt_tokens"]
        answer.num_tokens = usage["completion_tokens"]
    for choice in event.get("choices", ()):
        text = choice.get("delta", {}).get("content")
        if text:
            answer.text += text
        if text or (choice.get("finish_reason") and not answer.pieces_s):
            answer.pieces_s.append(at_s)
