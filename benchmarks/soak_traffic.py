"""Clients of a soak: some talk, some leave, some take caches away; what went wrong is counted.

Every client is a loop on a thread of its own. Whoever is told to come again does so; any other
answer than the expected one is a fault.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.chat_client import Messages, as_user, open_stream

NUM_TALKERS = 4
NUM_CHECKED_AGENTS = 3
NUM_LEAVING_AGENTS = 4
NUM_STORM_CLIENTS = 20
STORM_EVERY_S = 20.0
SWAP_EVERY_S = 40.0
MAX_MESSAGES = 24
"""A conversation of more begins anew."""
MAX_FAULTS = 50
LIMIT_S = 600.0
COME_AGAIN = (429, 503, 529)
QUESTIONS = (
    "What is the capital of France?",
    "What is two plus two?",
    "Name the largest planet of the solar system.",
    "Which animal says meow?",
    "What colour is the sky on a clear day?",
    "How many days does a week have?",
)
TOPICS = ("a river", "a lamp", "the winter", "an old clock", "a green door", "two friends")
DEEDS = ("evict", "warm", "pin", "unpin", "pause", "resume", "abort", "fork", "priority", "remove")

Headers = dict[str, str]


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        status: HTTP status.
        content: Its body.
        retry_after_s: When to come again, where it says so.
    """

    status: int
    content: bytes
    retry_after_s: float


@dataclass
class Tally:
    """What happened, counted from any thread.

    Attributes:
        counts: How often what happened.
        faults: What should not have happened, the first of it.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """Counts something."""
        with self._lock:
            self.counts[what] += 1

    def fault(self, what: str) -> None:
        """Takes down what should not have happened."""
        with self._lock:
            self.counts["faults"] += 1
            if len(self.faults) < MAX_FAULTS:
                self.faults.append(what)


def request(
    port: int, method: str, path: str, body: object = None, headers: Headers | None = None
) -> Reply:
    """One request on a connection of its own, and its whole answer.

    Raises:
        OSError: The connection broke.
        http.client.HTTPException: What came is no answer.
    """
    sent = {"content-type": "application/json", **(headers or {})}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        content = answer.read()
        return Reply(answer.status, content, float(answer.headers.get("retry-after") or 0))


class Traffic:
    """All clients of one server."""

    def __init__(self, port: int, seed: int = 0, models: tuple[str, ...] = ()) -> None:
        """Asks nothing yet.

        Args:
            port: Of a server on loopback.
            seed: Decides who does what when.
            models: What the active model is changed between, the active one first; all give the
                same answers.
        """
        self._models = models
        self.tally = Tally()
        self.expected: dict[str, str] = {}
        self._port = port
        self._seed = seed
        self._stop = threading.Event()

    def learn(self) -> None:
        """Takes down the right answers, while nobody else asks.

        Raises:
            RuntimeError: There was none.
        """
        for number, question in enumerate(QUESTIONS):
            text = self._answer(f"first-{number}", as_user(question))
            if not text:
                raise RuntimeError(f"no answer to {question!r}: {self.tally.faults}")
            self.expected[question] = text

    def check_all(self) -> None:
        """Asks every question once more, while nobody else asks."""
        for number, question in enumerate(QUESTIONS):
            self._check(f"first-{number}", question)

    def run(self, seconds: float) -> None:
        """Lets all clients at the server for a time, and waits until the last has its answer."""
        self._stop.clear()
        self._seed += 1
        rng = random.Random(self._seed)
        loops: list[Callable[[random.Random], None]] = [
            *(partial(self._talk, f"talker-{number}") for number in range(NUM_TALKERS)),
            self._ask_what_is_known,
            self._leave,
            self._storm,
            self._keep_house,
            *([self._change_model] if self._models else []),
        ]
        threads = [
            threading.Thread(target=self._loop, args=(loop, random.Random(rng.random())))
            for loop in loops
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self._stop.set()
        for thread in threads:
            thread.join()

    def _loop(self, act: Callable[[random.Random], None], rng: random.Random) -> None:
        while not self._stop.is_set():
            try:
                act(rng)
            except Exception as error:
                # Whatever it is, it is a finding, and the other clients go on.
                self.tally.fault(f"{error!r} in {act}")
                self._stop.wait(1.0)

    # Those who want answers

    def _talk(self, agent: str, rng: random.Random) -> None:
        """A conversation of a few turns, each longer than the one before."""
        messages: Messages = []
        for _ in range(rng.randrange(2, MAX_MESSAGES // 2)):
            topic = rng.choice(TOPICS)
            messages += as_user(f"Go on with a story about {topic}, in one or two sentences.")
            text = self._answer(agent, messages, num_tokens=rng.randrange(8, 40), rng=rng)
            if text is None or self._stop.is_set():
                return
            messages.append({"role": "assistant", "content": text or "Well."})

    def _ask_what_is_known(self, rng: random.Random) -> None:
        agent = f"check-{rng.randrange(NUM_CHECKED_AGENTS)}"
        self._check(agent, rng.choice(QUESTIONS))
        self._stop.wait(rng.random())

    def _check(self, agent: str, question: str) -> None:
        text = self._answer(agent, as_user(question))
        if text is None:
            return
        self.tally.count("answers compared")
        if text != self.expected[question]:
            self.tally.count("wrong answers")
            self.tally.fault(f"{question!r}: {text!r} instead of {self.expected[question]!r}")

    def _answer(
        self,
        agent: str,
        messages: Messages,
        num_tokens: int = 16,
        rng: random.Random | None = None,
    ) -> str | None:
        """A greedy answer, streamed or not; None where there was none."""
        is_streamed = rng is not None and rng.random() < 0.5
        body = {"max_tokens": num_tokens, "temperature": 0, "messages": messages}
        body |= {"model": "default_model", "stream": is_streamed}
        reply = request(self._port, "POST", "/v1/chat/completions", body, {"x-agent-id": agent})
        if reply.status in COME_AGAIN:
            self._come_again(reply)
            return None
        if reply.status == 403 and b"turn_aborted" in reply.content:
            self.tally.count("aborted by hand")
            return None
        if reply.status != 200:
            self.tally.fault(f"{reply.status} for {agent}: {reply.content[:300]!r}")
            return None
        self.tally.count("streams" if is_streamed else "replies")
        return _streamed_text(reply.content) if is_streamed else _text(reply.content)

    def _come_again(self, reply: Reply) -> None:
        self.tally.count(f"told to come again with {reply.status}")
        if not reply.retry_after_s:
            self.tally.fault(f"{reply.status} without retry-after: {reply.content[:300]!r}")
        self._stop.wait(min(5.0, reply.retry_after_s))

    # Those who do not

    def _leave(self, rng: random.Random) -> None:
        agent = f"leaver-{rng.randrange(NUM_LEAVING_AGENTS)}"
        topic = " and ".join(rng.choices(TOPICS, k=rng.randrange(1, 60)))
        stream = open_stream(self._port, as_user(f"A story about {topic}."), agent, 200)
        with closing(stream):
            self._stop.wait(rng.random() * 3)
        self.tally.count("left")

    def _storm(self, rng: random.Random) -> None:
        for number in range(NUM_STORM_CLIENTS):
            question = as_user(f"Tell {number} stories about {rng.choice(TOPICS)}.")
            stream = open_stream(self._port, question, f"storm-{number % 10}", 100)
            if rng.random() < 0.5:
                stream.settimeout(rng.random() * 0.2)
                try:
                    stream.recv(1024)
                except TimeoutError:
                    self.tally.count("left in a storm before anything came")
            stream.close()
        self.tally.count("storms")
        self._stop.wait(STORM_EVERY_S)

    def _keep_house(self, rng: random.Random) -> None:
        """Evicts, pins, forks and removes, whoever it is."""
        agent, deed = f"talker-{rng.randrange(NUM_TALKERS)}", rng.choice(DEEDS)
        if rng.random() < 0.2:
            self._do("POST", "/admin/evict-idle")
        elif deed == "remove":
            self._do("DELETE", f"/v1/agents/{rng.choice((agent, 'fork'))}")
        elif deed == "fork":
            self._do("POST", f"/v1/agents/{agent}/fork", {"agent_id": "fork"})
        elif deed == "priority":
            self._do("POST", f"/v1/agents/{agent}/priority", {"priority": rng.randrange(-2, 3)})
        elif deed == "pause":
            self._do("POST", f"/v1/agents/{agent}/pause")
            self._stop.wait(0.5)
            self._do("POST", f"/v1/agents/{agent}/resume")
        else:
            self._do("POST", f"/v1/agents/{agent}/{deed}")
        self._stop.wait(rng.random() * 3)

    def _change_model(self, rng: random.Random) -> None:
        """Changes the active model for the next one, under everybody's hands."""
        self._stop.wait(SWAP_EVERY_S * (0.5 + rng.random()))
        if self._stop.is_set():
            return
        self._models = (*self._models[1:], self._models[0])
        body = {"model": self._models[0], "drain_s": rng.choice((0, 2, 10))}
        reply = request(self._port, "POST", "/admin/models/swap", body)
        self.tally.count("changes of model")
        if reply.status != 200:
            self.tally.fault(f"{reply.status} for a change of model: {reply.content[:300]!r}")

    def _do(self, method: str, path: str, body: object = None) -> None:
        reply = request(self._port, method, path, body)
        # There may be no such agent, a turn of it, or nothing on disk.
        if reply.status not in (200, 201, 204, 400, 404, 409, *COME_AGAIN):
            self.tally.fault(f"{reply.status} for {method} {path}: {reply.content[:300]!r}")
        self.tally.count("deeds")

    def tidy_up(self) -> None:
        """Lets go of all that was pinned or paused, and evicts everybody."""
        for number in range(NUM_TALKERS):
            for deed in ("resume", "unpin"):
                self._do("POST", f"/v1/agents/talker-{number}/{deed}")
        self._do("DELETE", "/v1/agents/fork")
        self._do("POST", "/admin/evict-idle")

    def state(self) -> dict[str, Any]:
        """The engine's snapshot."""
        state: dict[str, Any] = json.loads(request(self._port, "GET", "/admin/state").content)
        return state


def _text(content: bytes) -> str:
    return str(json.loads(content)["choices"][0]["message"]["content"] or "")


def _streamed_text(content: bytes) -> str:
    """The text of a stream.

    Raises:
        RuntimeError: It ended with another error than that of a turn aborted by hand, or without
            an end.
    """
    if b"turn_aborted" in content:
        return ""
    if b"data: [DONE]" not in content:
        raise RuntimeError(f"a stream ended with {content[-300:]!r}")
    events = [json.loads(line[6:]) for line in content.splitlines() if line.startswith(b"data: {")]
    pieces = [choice["delta"].get("content") for e in events for choice in e.get("choices", ())]
    return "".join(piece for piece in pieces if piece)
