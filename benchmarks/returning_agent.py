"""Time to first token of an agent that comes back: cold, hot, from disk, and after ``kill -9``.

Usage: ``python -m benchmarks.returning_agent [--llama-server PATH] [--mlx-lm] [--vllm-mlx PATH]``.
One server runs at a time. For each length an agent has a conversation: its first turn is a prompt
nobody knows (cold); the same once more (again); then its next turns, each the conversation so far
and a short question, when nothing happened in between (hot), after another conversation (other),
after its cache went to disk (warm), and after the server was killed and started again (restart).
Where a client has to ask for a saved cache, asking is part of the time.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chat_client import Messages, as_user, chat, converse
from benchmarks.cpu_profile import bundled_model
from benchmarks.peers import Contestant, Stoker, add_peer_options, peers
from benchmarks.results_file import summarize, write_result

NUM_TOKENS = (1000, 2000, 4000, 7000)
NUM_REPLY_TOKENS = 3
STATES = ("cold", "again", "hot", "other", "warm", "restart")
WORDS = ("river", "stone", "lamp", "garden", "copper", "violet", "engine", "harbour")
COUNTRIES = ("Italy", "Spain", "Japan", "Egypt", "Peru", "Norway", "Kenya", "Greece")
OTHER_TOKENS = 150

Samples = dict[int, dict[str, list[float]]]
"""Seconds to the first token, by length and state."""


@dataclass
class Conversation:
    """An agent and what it and the server have said.

    Attributes:
        agent: Its name.
        messages: What the next turn sends.
    """

    agent: str
    messages: Messages = field(default_factory=list)

    def turn(self, contestant: Contestant) -> float:
        """Sends the conversation as it is.

        Returns:
            Seconds to the first token.
        """
        stream = converse(contestant.server.port, self.messages, NUM_REPLY_TOKENS, self.agent)
        self._reply = stream.text
        return stream.ttft_s

    def next_turn(self, contestant: Contestant, *, from_disk: bool = False) -> float:
        """Goes on with the last reply and a new question.

        Args:
            contestant: Where to.
            from_disk: Whether the cache is on disk and must be asked for.

        Returns:
            Seconds to the first token, the asking included.
        """
        country = COUNTRIES[len(self.messages) // 2 % len(COUNTRIES)]
        self.messages += [
            {"role": "assistant", "content": self._reply or "I do not know."},
            {"role": "user", "content": f"What is the capital of {country}?"},
        ]
        began_s = time.monotonic()
        if from_disk:
            contestant.bring_back(self.agent)
        return time.monotonic() - began_s + self.turn(contestant)


def prompt(num_tokens: int, number: int) -> str:
    """A text of about that many tokens that begins like no other."""
    words = (WORDS[(i * 7 + i * i * (number + 1)) % len(WORDS)] for i in range(num_tokens - 60))
    text = " ".join(words)
    return f"Text {number} of {num_tokens}: {text}. What is the capital of France?"


def measure(contestant: Contestant, lengths: tuple[int, ...], rounds: int, returns: int) -> Samples:
    """All samples of one server.

    Args:
        contestant: The server.
        lengths: Prompts, in tokens.
        rounds: Conversations of each length.
        returns: Turns of each conversation in each state but cold.
    """
    samples: Samples = {length: {state: [] for state in contestant.states} for length in lengths}
    with contestant.server:
        for number in range(rounds):
            chat(contestant.server.port, "Say hello.", 2, "warm-up")
            talks = {
                length: _first_turns(contestant, length, number, returns, samples[length])
                for length in lengths
            }
            if "restart" in contestant.states:
                for _ in range(returns):
                    _restart(contestant, talks, samples)
    return samples


def _first_turns(
    contestant: Contestant, length: int, number: int, returns: int, times: dict[str, list[float]]
) -> Conversation:
    """A conversation in every state that needs no restart; saved at its end."""
    talk = Conversation(f"agent-{length}-{number}", as_user(prompt(length, number)))

    def other_first() -> None:
        other = prompt(OTHER_TOKENS, 100 + len(talk.messages))
        chat(contestant.server.port, other, NUM_REPLY_TOKENS, "other")

    before: dict[str, Callable[[], None]] = {
        "hot": lambda: None,
        "other": other_first,
        "warm": lambda: contestant.set_aside(talk.agent),
    }
    times["cold"].append(talk.turn(contestant))
    times["again"] += [talk.turn(contestant) for _ in range(returns)]
    for state, prepare in before.items():
        for _ in range(returns if state in contestant.states else 0):
            prepare()
            times[state].append(talk.next_turn(contestant, from_disk=state == "warm"))
    contestant.save(talk.agent)
    return talk


def _restart(contestant: Contestant, talks: dict[int, Conversation], samples: Samples) -> None:
    contestant.server.kill()
    contestant.server.start()
    chat(contestant.server.port, "Say hello.", 2, "warm-up")
    for length, talk in talks.items():
        samples[length]["restart"].append(talk.next_turn(contestant, from_disk=True))
        contestant.save(talk.agent)


def summarized(samples: Samples) -> dict[str, Any]:
    """Percentiles by length, each state against cold, and hot at the longest against shortest."""
    lengths: dict[str, Any] = {}
    for length, times in samples.items():
        states = {state: summarize(values) for state, values in times.items()}
        cold = states["cold"]["p50"]
        ratios = {state: cold / ttft["p50"] for state, ttft in states.items() if state != "cold"}
        lengths[str(length)] = {"ttft_s": states, "times_faster_than_cold": ratios}
    hot = {length: times["hot"] for length, times in samples.items()}
    longest, shortest = max(hot), min(hot)
    flatness = summarize(hot[longest])["p50"] / summarize(hot[shortest])["p50"]
    return {"lengths": lengths, "hot_longest_to_shortest": flatness}


def against(stoker: dict[str, Any], peer: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How many times longer the peer takes, by length and state that both know."""
    return {
        length: {
            state: ttft["p50"] / stoker["lengths"][length]["ttft_s"][state]["p50"]
            for state, ttft in result["ttft_s"].items()
            if state in stoker["lengths"][length]["ttft_s"]
        }
        for length, result in peer["lengths"].items()
        if length in stoker["lengths"]
    }


def is_ahead(ratios: dict[str, dict[str, float]]) -> bool:
    """Whether the peer takes longer in every returning case."""
    returning = ({**states, "cold": math.inf} for states in ratios.values())
    return all(ratio > 1 for states in returning for ratio in states.values())


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=NUM_TOKENS, metavar="TOKENS")
    parser.add_argument("--rounds", type=int, default=2, help="conversations of each length")
    parser.add_argument("--returns", type=int, default=5, help="turns in each returning state")
    parser.add_argument(
        "--slow-lengths",
        type=int,
        nargs="+",
        default=[1000],
        metavar="TOKENS",
        help="lengths for peers on stock mlx, which prefill a dozen tokens a second here",
    )
    add_peer_options(parser)
    options = parser.parse_args()
    model = str(bundled_model())
    results: dict[str, Any] = {"stoker_ahead": {}, "peer_to_stoker": {}}
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        stoker = summarized(
            measure(
                Stoker(Path(folder) / "stoker", model),
                tuple(options.lengths),
                options.rounds,
                options.returns,
            )
        )
        results["stoker"] = stoker
        _show("stoker", stoker)
        for name, make in peers(options, Path(folder), model).items():
            is_slow = name != "llama_server"
            lengths = tuple(options.slow_lengths if is_slow else options.lengths)
            returns = min(options.returns, 3) if is_slow else options.returns
            results[name] = summarized(measure(make(), lengths, 1, returns))
            _show(name, results[name])
            ratios = against(stoker, results[name])
            results["peer_to_stoker"][name] = ratios
            results["stoker_ahead"][name] = is_ahead(ratios)
            print(f"{name}: stoker is ahead on every returning case: {is_ahead(ratios)}")
    print(write_result("returning_agent", results))


def _show(name: str, result: dict[str, Any]) -> None:
    for length, each in result["lengths"].items():
        ratios = {"cold": 1.0, **each["times_faster_than_cold"]}
        shown = (
            f"{state} {ttft['p50']:.3f} s (1/{ratios[state]:.0f})"
            for state, ttft in each["ttft_s"].items()
        )
        print(f"{name}, {length} tokens: {', '.join(shown)}", flush=True)
    print(f"{name}: hot, longest to shortest: {result['hot_longest_to_shortest']:.2f}")


if __name__ == "__main__":
    main()
