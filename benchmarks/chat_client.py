"""Streaming chat-completions clients that cost as little as they can while they are measured.

One thread receives raw bytes of all streams and notes when they came; they are read as JSON only
when the last one has ended.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import Self

LIMIT_S = 900.0
MODEL_NAME = "default_model"
"""What every server here serves its one model as, or ignores."""
_EVENT = b"data: {"

Messages = list[dict[str, str]]
"""A conversation: ``role`` and ``content`` of each message."""


@dataclass
class Stream:
    """One streamed answer.

    Attributes:
        sent_s: When the request was sent, monotonic seconds.
        pieces_s: When each piece of text came; of an answer without text, when it ended.
        num_tokens: Generated tokens as the server counted them.
        text: The answer.
    """

    sent_s: float = 0.0
    pieces_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    text: str = ""

    @property
    def ttft_s(self) -> float:
        """Seconds to the first piece."""
        return self.pieces_s[0] - self.sent_s

    @property
    def end_s(self) -> float:
        """When the last piece came."""
        return self.pieces_s[-1]


class _Connection:
    """A request under way: its socket and what came from it, with times."""

    def __init__(self, port: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.0\r\n"
            f"Host: 127.0.0.1:{port}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self.sent_s = time.monotonic()
        self.received: list[tuple[float, bytes]] = []
        self.socket.sendall(head.encode() + content)

    def receive(self) -> bool:
        """Takes what is there; False at the end."""
        chunk = self.socket.recv(1 << 16)
        self.received.append((time.monotonic(), chunk))
        return bool(chunk)

    def stream(self) -> Stream:
        """Reads what was received.

        Raises:
            RuntimeError: The server refused.
        """
        head = self.received[0][1]
        if b" 200 " not in head[:20]:
            raise RuntimeError(head[:500].decode(errors="replace"))
        stream = Stream(sent_s=self.sent_s)
        rest = b""
        for at_s, chunk in self.received:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(_EVENT):
                    _take(stream, at_s, line.removeprefix(b"data: "))
        return stream


def _take(stream: Stream, at_s: float, event_json: bytes) -> None:
    event = json.loads(event_json)
    usage = event.get("usage")
    if usage:
        stream.num_tokens = usage["completion_tokens"]
    for choice in event.get("choices", ()):
        text = choice.get("delta", {}).get("content")
        if text:
            stream.text += text
        if text or (choice.get("finish_reason") and not stream.pieces_s):
            stream.pieces_s.append(at_s)


def chat(port: int, prompt: str, num_tokens: int, agent: str) -> Stream:
    """One greedy answer, streamed.

    Args:
        port: Of a server on loopback.
        prompt: The user's message.
        num_tokens: Tokens at most.
        agent: Name of the conversation.
    """
    return converse(port, as_user(prompt), num_tokens, agent)


def chat_together(port: int, prompts: list[str], num_tokens: int, tag: str) -> list[Stream]:
    """All prompts at once, one agent each; results in the order of the prompts."""
    return converse_together(port, [as_user(prompt) for prompt in prompts], num_tokens, tag)


def as_user(prompt: str) -> Messages:
    """A conversation that begins with that prompt."""
    return [{"role": "user", "content": prompt}]


def converse(port: int, messages: Messages, num_tokens: int, agent: str) -> Stream:
    """The next greedy answer of a conversation, streamed.

    Args:
        port: Of a server on loopback.
        messages: The conversation so far.
        num_tokens: Tokens at most.
        agent: Name of the conversation.
    """
    return _converse_all(port, [(messages, agent)], num_tokens)[0]


def converse_together(
    port: int, conversations: list[Messages], num_tokens: int, tag: str
) -> list[Stream]:
    """All conversations at once, one agent each; results in their order."""
    asked = [(messages, f"{tag}-{number}") for number, messages in enumerate(conversations)]
    return _converse_all(port, asked, num_tokens)


def open_stream(port: int, messages: Messages, agent: str, num_tokens: int) -> socket.socket:
    """Asks for a streamed answer that nobody reads; closing the socket ends it.

    Args:
        port: Of a server on loopback.
        messages: The conversation so far.
        agent: Name of the conversation.
        num_tokens: Tokens at most.
    """
    return _Connection(port, _body(messages, agent, num_tokens)).socket


class Crowd:
    """Answers under way on one server, which may be asked for at different times."""

    def __init__(self, port: int) -> None:
        """Asks nothing yet.

        Args:
            port: Of a server on loopback.
        """
        self._port = port
        self._connections: list[_Connection] = []
        self._selector = selectors.DefaultSelector()
        self._num_open = 0

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes every connection, also of answers that have not ended."""
        self._selector.close()
        for connection in self._connections:
            connection.socket.close()

    def ask(self, messages: Messages, num_tokens: int, agent: str) -> None:
        """Asks for the next greedy answer of a conversation.

        Args:
            messages: The conversation so far.
            num_tokens: Tokens at most.
            agent: Name of the conversation.
        """
        connection = _Connection(self._port, _body(messages, agent, num_tokens))
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._connections.append(connection)
        self._num_open += 1

    def listen(self, seconds: float) -> None:
        """Receives for a time."""
        self._receive(until_s=time.monotonic() + seconds)

    def listen_to_the_end(self) -> list[Stream]:
        """Receives until every answer has ended.

        Returns:
            The answers, in the order in which they were asked for.

        Raises:
            TimeoutError: Not every answer came.
            RuntimeError: The server refused one.
        """
        self._receive(until_s=time.monotonic() + LIMIT_S)
        if self._num_open:
            raise TimeoutError("not every answer came")
        return [connection.stream() for connection in self._connections]

    def _receive(self, until_s: float) -> None:
        while self._num_open and (left_s := until_s - time.monotonic()) > 0:
            for key, _ in self._selector.select(min(1.0, left_s)):
                if not key.data.receive():
                    self._selector.unregister(key.fileobj)
                    self._num_open -= 1


def _converse_all(port: int, asked: list[tuple[Messages, str]], num_tokens: int) -> list[Stream]:
    with Crowd(port) as crowd:
        for messages, agent in asked:
            crowd.ask(messages, num_tokens, agent)
        return crowd.listen_to_the_end()


def _body(messages: Messages, agent: str, num_tokens: int) -> dict[str, object]:
    return {
        "model": MODEL_NAME,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": num_tokens,
        "user": agent,
        "messages": messages,
    }
