"""What a short request waits while two long prompts are prefilled and others stream.

Usage: ``python -m benchmarks.fairness [--llama-server PATH] [--mlx-lm --long-tokens 300]``. Four
agents stream; two more come with long prompts, and a little later one with a short prompt. Its
time to first token is held against the same request on an idle server, and the gaps of those that
stream against ``decode_stall_ms``. Stoker runs the same once more with the longest slices, whoever
they hold up: all that fairness may cost against that is a tenth of the tokens per second.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chat_client import Crowd, Stream, as_user, chat
from benchmarks.cpu_profile import bundled_model
from benchmarks.peers import add_peer_options, peers
from benchmarks.results_file import summarize, write_result
from benchmarks.returning_agent import COUNTRIES, prompt
from benchmarks.servers import Server, stoker

NUM_STREAMING = 4
NUM_LONG = 2
NUM_CONVERSATIONS = NUM_STREAMING + NUM_LONG + 1
LONG_TOKENS = 6000
SHORT_REPLY_TOKENS = 8
STREAMED_TOKENS = 400
DECODE_STALL_MS = 200.0
UNFAIR = {"STOKER_DECODE_STALL_MS": "60000"}
SETTLE_S = 2.0
"""How long the streaming agents run alone, and the long prompts before the short request comes."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """How large everything is.

    Attributes:
        long_tokens: Each long prompt.
        streamed_tokens: What each streaming agent generates.
        rounds: How often it is done.
    """

    long_tokens: int = LONG_TOKENS
    streamed_tokens: int = STREAMED_TOKENS
    rounds: int = 3


def short_prompt(number: int) -> str:
    """About fifty tokens that begin like no others."""
    names = ", ".join(COUNTRIES)
    return f"Question {number}. Here are some countries: {names}. Which one of them is the largest?"


@dataclass(frozen=True)
class Round:
    """The answers of one round.

    Attributes:
        streaming: Of the agents that stream.
        long: Of those with long prompts.
        short: Of the short request.
    """

    streaming: list[Stream]
    long: list[Stream]
    short: Stream

    @property
    def seconds(self) -> float:
        """From the first request to the last piece."""
        everybody = [*self.streaming, *self.long, self.short]
        return max(each.end_s for each in everybody) - min(each.sent_s for each in everybody)

    @property
    def gaps_s(self) -> list[float]:
        """Between pieces of those that stream, while a long prompt was prefilled."""
        from_s = min(each.sent_s for each in self.long)
        until_s = max(each.pieces_s[0] for each in self.long)
        return [
            later - earlier
            for stream in self.streaming
            for earlier, later in zip(stream.pieces_s, stream.pieces_s[1:], strict=False)
            if from_s <= later and earlier <= until_s
        ]


def run_round(port: int, load: Load, number: int) -> Round:
    """Four that stream, two with long prompts, then one with a short one."""
    with Crowd(port) as crowd:
        for each in range(NUM_STREAMING):
            text = f"Story {number}-{each}. Write a long story about a river and a lamp."
            crowd.ask(as_user(text), load.streamed_tokens, f"streaming-{number}-{each}")
        crowd.listen(SETTLE_S)
        for each in range(NUM_LONG):
            text = prompt(load.long_tokens, 10 * number + each)
            crowd.ask(as_user(text), SHORT_REPLY_TOKENS, f"long-{number}-{each}")
        crowd.listen(SETTLE_S)
        crowd.ask(as_user(short_prompt(100 + number)), SHORT_REPLY_TOKENS, f"short-{number}")
        streams = crowd.listen_to_the_end()
    return Round(streams[:NUM_STREAMING], streams[NUM_STREAMING:-1], streams[-1])


def measure(server: Server, load: Load) -> dict[str, Any]:
    """One server: the short request alone, and among the others."""
    with server:
        chat(server.port, "Say hello.", 4, "warm-up")
        alone = [
            chat(server.port, short_prompt(number), SHORT_REPLY_TOKENS, f"alone-{number}").ttft_s
            for number in range(2 * load.rounds)
        ]
        rounds = [run_round(server.port, load, number) for number in range(load.rounds)]
    num_tokens = NUM_LONG * load.long_tokens + sum(
        stream.num_tokens for stream in rounds[0].streaming
    )
    return {
        "alone_ttft_s": summarize(alone),
        "short_ttft_s": summarize([each.short.ttft_s for each in rounds]),
        "long_ttft_s": summarize([stream.ttft_s for each in rounds for stream in each.long]),
        "gap_s": summarize([gap for each in rounds for gap in each.gaps_s]),
        "tokens_per_s": summarize([num_tokens / each.seconds for each in rounds]),
    }


def verdict(fair: dict[str, Any], unfair: dict[str, Any]) -> dict[str, Any]:
    """What was aimed at, and what came of it.

    Args:
        fair: Stoker as it is.
        unfair: Stoker with the longest slices.
    """
    slice_s = DECODE_STALL_MS / 1000
    return {
        "short_ttft_limit_s": 2 * fair["alone_ttft_s"]["p50"] + slice_s,
        "short_ttft_s": fair["short_ttft_s"]["p50"],
        "gap_p99_limit_s": 1.5 * slice_s,
        "gap_p99_s": fair["gap_s"]["p99"],
        "throughput_of_unfair": fair["tokens_per_s"]["p50"] / unfair["tokens_per_s"]["p50"],
    }


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long-tokens", type=int, default=LONG_TOKENS, help="each long prompt")
    parser.add_argument("--streamed-tokens", type=int, default=STREAMED_TOKENS)
    parser.add_argument("--rounds", type=int, default=3)
    add_peer_options(parser)
    options = parser.parse_args()
    load = Load(
        long_tokens=options.long_tokens,
        streamed_tokens=options.streamed_tokens,
        rounds=options.rounds,
    )
    model = str(bundled_model())
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        fair = measure(stoker(Path(folder, "fair"), model), load)
        unfair = measure(stoker(Path(folder, "unfair"), model, environment=UNFAIR), load)
        others = {
            name: measure(contestant().server, load)
            for name, contestant in peers(
                options, Path(folder), model, num_slots=NUM_CONVERSATIONS
            ).items()
        }
    results = {"stoker": fair, "stoker_unfair": unfair, **others}
    for name, result in results.items():
        shown = {key: f"{value['p50']:.3f}" for key, value in result.items()}
        print(f"{name}: {shown}, gap p99 {result['gap_s']['p99']:.3f} s")
    aims = verdict(fair, unfair)
    print(aims)
    sizes = {"long_tokens": load.long_tokens, "streamed_tokens": load.streamed_tokens}
    print(write_result("fairness", {**sizes, "aims": aims, **results}))


if __name__ == "__main__":
    main()
