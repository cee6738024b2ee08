"""A streaming chat-completions client that records when each piece came."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

LIMIT_S = 900.0


@dataclass
class Stream:
    """One streamed answer.

    Attributes:
        sent_s: When the request was sent, monotonic seconds.
        pieces_s: When each piece of text came.
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


def chat(port: int, prompt: str, num_tokens: int, agent: str) -> Stream:
    """One greedy answer, streamed.

    Args:
        port: Of a server on loopback.
        prompt: The user's message.
        num_tokens: Tokens at most.
        agent: Name of the conversation.
    """
    body = {
        "model": "default_model",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": num_tokens,
        "user": agent,
        "messages": [{"role": "user", "content": prompt}],
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    stream = Stream(sent_s=time.monotonic())
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {response.read(500)!r}")
    for line in response:
        if line.startswith(b"data: {"):
            _take(stream, json.loads(line[6:]))
    connection.close()
    return stream


def _take(stream: Stream, event: dict[str, Any]) -> None:
    usage = event.get("usage")
    if usage:
        stream.num_tokens = usage["completion_tokens"]
    for choice in event.get("choices", ()):
        text = choice.get("delta", {}).get("content")
        if text:
            stream.text += text
            stream.pieces_s.append(time.monotonic())


def chat_together(port: int, prompts: list[str], num_tokens: int, tag: str) -> list[Stream]:
    """All prompts at once, one agent each; results in the order of the prompts."""
    streams: list[Stream | None] = [None] * len(prompts)

    def run(number: int) -> None:
        streams[number] = chat(port, prompts[number], num_tokens, f"{tag}-{number}")

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    done = [stream for stream in streams if stream is not None]
    if len(done) != len(prompts):
        raise RuntimeError("not every answer came")
    return done
