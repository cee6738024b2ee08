"""What is measured of a server: prefill, decode, mixed lengths, and agents that come back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.agents_client import SWAP_TIMEOUT_S, AgentsClient, agent_path
from app.bench.result import Measure
from app.bench.streams import Answer, ChatServer, Messages, Question

PROMPT_TOKENS = (1000, 4000)
NUM_STREAMS = (1, 2, 4, 8, 16)
MIXED_WORDS = (10, 20, 40, 80, 160, 320, 480, 640)
DECODED_TOKENS = 64
REPLY_TOKENS = 4
SAVE_LIMIT_S = 60.0
WORDS = ("river", "stone", "lamp", "garden", "copper", "violet", "engine", "harbour")
"""Words that common tokenizers have one token for."""
_STORY = "Write a long story about a {} and a {}."

Tell = Callable[[float, str], None]
"""Is told the share that is done, and what comes next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: Samples of each quantity.
        prompt_tokens: Lengths of prompts, about.
        num_streams: Sizes of batches.
        decoded_tokens: Tokens that each stream generates.
        restart: Ends the server and starts it again; None for a server that is not ours.
        swap_to: A model to change to and back from; None changes none.
    """

    rounds: int = 3
    prompt_tokens: tuple[int, ...] = PROMPT_TOKENS
    num_streams: tuple[int, ...] = NUM_STREAMS
    decoded_tokens: int = DECODED_TOKENS
    restart: Callable[[], None] | None = None
    swap_to: str | None = None

    @property
    def num_steps(self) -> int:
        """Steps of which progress is told."""
        return len(self.prompt_tokens) + len(self.num_streams) + 1 + bool(self.swap_to)


class Speed:
    """Measures one server."""

    def __init__(
        self, chat: ChatServer, plan: Plan, tell: Tell, stoker: AgentsClient | None = None
    ) -> None:
        """Measures nothing yet.

        Args:
            chat: The server.
            plan: How much is measured.
            tell: Is told how far it is.
            stoker: The same server where it is a Stoker, whose caches can be set aside.
        """
        self._chat = chat
        self._plan = plan
        self._tell = tell
        self._stoker = stoker
        self._num_done = 0
        # What an earlier run has left in the server's cache must not be found by this one.
        self._tag = secrets.token_hex(4)

    def measure(self) -> list[Measure]:
        """Everything of the plan, in the order in which it is shown.

        Raises:
            StokerError: The server refuses, breaks off, or cannot be reached.
        """
        self._chat.ask(Question(f"bench-{self._tag}", _as_user("Say hello."), REPLY_TOKENS))
        found = [each for length in self._plan.prompt_tokens for each in self._returning(length)]
        found += [self._decode(size) for size in self._plan.num_streams]
        found.append(self._mixed())
        if self._stoker is not None and self._plan.swap_to:
            found += self._swap(self._stoker, self._plan.swap_to)
        groups = list(dict.fromkeys(each.group for each in found))
        return sorted(found, key=lambda each: groups.index(each.group))

    def _step(self, text: str) -> None:
        self._tell(self._num_done / self._plan.num_steps, text)
        self._num_done += 1

    def _returning(self, length: int) -> Iterator[Measure]:
        """An agent with a long prompt: unknown, on its next turn, from disk, after a restart."""
        self._step(f"an agent of {length} tokens that comes back")
        talks = [
            _Talk(self._chat, f"bench-{self._tag}-{length}-{number}", _prompt(length, self._tag))
            for number in range(self._plan.rounds)
        ]
        cold = [talk.turn() for talk in talks]
        label = f"{length} tokens"
        rates = tuple(each.num_prompt_tokens / each.ttft_s for each in cold)
        if all(rates):
            yield _rate("prefill", label, rates)
        yield _wait("cold", label, cold)
        yield _wait("hot", label, [talk.turn() for talk in talks])
        if self._stoker is not None:
            yield self._bytes(self._stoker, talks, label)
            yield _wait("from disk", label, [self._set_aside(self._stoker, talk) for talk in talks])
        if self._stoker is not None and self._plan.restart is not None:
            for talk in talks:
                _await_saved(self._stoker, talk.agent)
            self._plan.restart()
            self._chat.ask(Question("bench-warm-up", _as_user("Say hello."), REPLY_TOKENS))
            yield _wait("after a restart", label, [talk.turn() for talk in talks])

    def _set_aside(self, stoker: AgentsClient, talk: _Talk) -> Answer:
        _await_saved(stoker, talk.agent)
        stoker.post(agent_path(talk.agent, "evict"))
        return talk.turn()

    def _bytes(self, stoker: AgentsClient, talks: list[_Talk], label: str) -> Measure:
        rows = [stoker.get(agent_path(talk.agent)) for talk in talks]
        samples = tuple(row["hot_bytes"] / row["num_context_tokens"] / 1e3 for row in rows)
        return Measure(
            group="KV cache in memory, each token",
            label=label,
            unit="kB",
            samples=samples,
            more_is_better=False,
        )

    def _decode(self, num_streams: int) -> Measure:
        """Tokens of all streams per second while all of them generate."""
        self._step(f"{num_streams} streams at once")
        rates = []
        for number in range(self._plan.rounds):
            names = [f"{self._tag}-{num_streams}-{number}-{each}" for each in range(num_streams)]
            questions = [
                Question(f"bench-{name}", _as_user(_story(name)), self._plan.decoded_tokens)
                for name in names
            ]
            rates.append(decode_rate(self._chat.ask_together(questions)))
        label = f"{num_streams} stream{'s' if num_streams > 1 else ''}"
        return _rate("decode", label, tuple(rates))

    def _mixed(self) -> Measure:
        """Tokens per second of agents with prompts of mixed length, prefill included."""
        self._step("agents of mixed length")
        rates = []
        for number in range(self._plan.rounds):
            questions = [
                Question(
                    f"bench-{self._tag}-mixed-{number}-{words}",
                    _as_user(_prompt(words, f"{self._tag}-{number}")),
                    self._plan.decoded_tokens,
                )
                for words in MIXED_WORDS
            ]
            answers = self._chat.ask_together(questions)
            seconds = max(each.end_s for each in answers) - min(each.sent_s for each in answers)
            rates.append(sum(each.num_tokens for each in answers) / seconds)
        label = f"{len(MIXED_WORDS)} agents of mixed length"
        return _rate("generated in all, prefill included", label, tuple(rates))

    def _swap(self, stoker: AgentsClient, other: str) -> Iterator[Measure]:
        """Seconds until another model serves, and until the first one does again."""
        self._step(f"a change of model to {other} and back")
        choices = stoker.get("/admin/models")["data"]
        first = next(each["model_id"] for each in choices if each["is_active"])
        away, back = [], []
        for _ in range(self._plan.rounds):
            away.append(_swap_s(stoker, other))
            back.append(_swap_s(stoker, first))
        for label, samples in ((f"to {other}", away), ("and back", back)):
            yield Measure(
                group="change of model",
                label=label,
                unit="s",
                samples=tuple(samples),
                more_is_better=False,
            )


class _Talk:
    """An agent and its conversation so far."""

    def __init__(self, chat: ChatServer, agent: str, prompt: str) -> None:
        self.agent = agent
        self._chat = chat
        self._messages = _as_user(f"{agent}: {prompt}")

    def turn(self) -> Answer:
        """Its next turn; what it will say after that is appended."""
        answer = self._chat.ask(Question(self.agent, list(self._messages), REPLY_TOKENS))
        self._messages += [
            {"role": "assistant", "content": answer.text or "I do not know."},
            {"role": "user", "content": f"And number {len(self._messages)}?"},
        ]
        return answer


def decode_rate(answers: list[Answer]) -> float:
    """Pieces per second from when every stream has its first one until the first one ends.

    A stream whose pieces hold several tokens counts as if all of its pieces held as many.
    """
    from_s = max(each.pieces_s[0] for each in answers)
    until_s = min(each.end_s for each in answers)
    if until_s <= from_s:
        return 0.0
    tokens = sum(
        each.num_tokens / len(each.pieces_s) * sum(from_s < at <= until_s for at in each.pieces_s)
        for each in answers
    )
    return tokens / (until_s - from_s)


def _swap_s(stoker: AgentsClient, model: str) -> float:
    """Seconds that it takes to make a model the active one."""
    report = stoker.post("/admin/models/swap", {"model": model}, timeout_s=SWAP_TIMEOUT_S)
    return float(report["parts"]["total_s"])


def _await_saved(stoker: AgentsClient, agent: str) -> None:
    """Waits until an agent's whole cache is on disk, or for as long as that is worth it."""
    deadline_s = time.monotonic() + SAVE_LIMIT_S
    while time.monotonic() < deadline_s:
        row = stoker.get(agent_path(agent))
        if 0 < row["hot_bytes"] <= row["warm_bytes"]:
            return
        time.sleep(0.05)


def _rate(group: str, label: str, samples: tuple[float, ...]) -> Measure:
    return Measure(group=group, label=label, unit="tok/s", samples=samples, more_is_better=True)


def _wait(state: str, label: str, answers: list[Answer]) -> Measure:
    return Measure(
        group=f"time to first token, {state}",
        label=label,
        unit="s",
        samples=tuple(each.ttft_s for each in answers),
        more_is_better=False,
    )


def _as_user(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def _prompt(num_tokens: int, tag: str) -> str:
    words = (WORDS[(i * 7 + i * i) % len(WORDS)] for i in range(num_tokens))
    return f"Text {tag}: {' '.join(words)}. Which of these words came first?"


def _story(name: str) -> str:
    first = sum(map(ord, name))
    return f"{name}. " + _STORY.format(WORDS[first % len(WORDS)], WORDS[(first // 8) % len(WORDS)])
