"""How many agents fit one budget with each format of the KV cache, and what each format costs.

Usage: ``python -m benchmarks.kv_formats``. For each format one engine gets agents of one length
until the first of them has to go, and another engine, with room for all, is timed: first token of
an unknown and of a returning agent, and decode alone and in a batch. What a format does to the
model's answers is another question: ``stoker bench kv`` measures that.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.chat_client import Stream
from benchmarks.child import Child
from benchmarks.cpu_profile import bundled_model
from benchmarks.http_agents import QUESTION, WORDS, decode_rate
from benchmarks.results_file import summarize, write_result

LOSSLESS = "lossless"
FORMATS: dict[str, dict[str, object]] = {
    LOSSLESS: {},
    "8 bit": {"kv_bits": 8},
    "4 bit": {"kv_bits": 4},
}
DTYPE_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}
BATCH = 4
REPLY_TOKENS = 24
DECODE_TOKENS = 64
BATCH_DECODE_TOKENS = 192
"""More, so that the first of a batch still decodes when the last has its prompt taken in."""
TARGET_AGAINST_16_BIT = 3.5
"""Agents with 4 bits against agents with 16."""


def prompt(num_tokens: int, number: int) -> str:
    """A text of at least that many tokens, unlike others from its beginning, with a long answer."""
    words = (WORDS[(i * 3 + i * i * (number + 1)) % len(WORDS)] for i in range(num_tokens))
    return f"Story {number}. {QUESTION}{' '.join(words)}. Begin with the first chapter."


@contextmanager
def engine(settings: dict[str, object]) -> Iterator[Child]:
    """An engine on the bundled model, without a disk."""
    given = {"model": str(bundled_model()), "kv_disk_bytes": 0, **settings}
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as home:
        child = Child("engine_child", json.dumps(given), Path(home))
        try:
            child.ask(turns=[("warm-up", "Say hello.")], num_tokens=8)
            yield child
        finally:
            child.close()


def count_agents(settings: dict[str, object], budget_bytes: int, agent_tokens: int) -> Any:
    """Adds agents of a length until one has to go."""
    num_prompt_tokens = agent_tokens - REPLY_TOKENS
    with engine({"kv_budget_bytes": budget_bytes, **settings}) as child:
        num_most = num_asked = 0
        while num_most == num_asked:
            answer = child.ask(
                turns=[(f"agent-{num_asked}", prompt(agent_tokens, num_asked))],
                num_tokens=REPLY_TOKENS,
                num_prompt_tokens=num_prompt_tokens,
            )
            num_asked += 1
            num_most = sum(name.startswith("agent-") for name in answer["hot_agents"])
    bytes_per_token = answer["kv_bytes_per_token"]
    return {
        "num_agents": num_most,
        "kv_bytes_per_token": bytes_per_token,
        "dtype": answer["dtype"],
        "num_agents_by_bytes": budget_bytes / (bytes_per_token * agent_tokens),
    }


def time_turns(settings: dict[str, object], num_prompt_tokens: int, rounds: int) -> dict[str, Any]:
    """First tokens and decode rates."""
    names = ("cold_ttft_s", "hot_ttft_s", "decode_tokens_per_s", "batch_tokens_per_s")
    samples: dict[str, list[float]] = {name: [] for name in names}
    texts: list[str] = []
    with engine(settings) as child:
        for number in range(rounds):
            alone = [(f"alone-{number}", prompt(num_prompt_tokens, number))]
            cold = child.ask(turns=alone, num_tokens=DECODE_TOKENS)
            hot = child.ask(turns=alone, num_tokens=DECODE_TOKENS)
            together = child.ask(
                turns=[
                    (f"{number}-{at}", prompt(num_prompt_tokens, 10 * (number + 1) + at))
                    for at in range(BATCH)
                ],
                num_tokens=BATCH_DECODE_TOKENS,
            )
            samples["cold_ttft_s"] += _ttft_s(cold)
            samples["hot_ttft_s"] += _ttft_s(hot)
            samples["decode_tokens_per_s"] += [_rate(cold), _rate(hot)]
            samples["batch_tokens_per_s"].append(_rate(together))
            texts += cold["texts"]
    return {**{name: summarize(values) for name, values in samples.items()}, "texts": texts}


def _ttft_s(answer: dict[str, Any]) -> list[float]:
    pairs = zip(answer["sent_s"], answer["pieces_s"], strict=True)
    return [pieces[0] - sent for sent, pieces in pairs]


def _rate(answer: dict[str, Any]) -> float:
    return decode_rate([Stream(pieces_s=pieces) for pieces in answer["pieces_s"]])


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget-mb", type=int, default=120)
    parser.add_argument("--agent-tokens", type=int, default=512, help="length of each agent")
    parser.add_argument("--prompt-tokens", type=int, default=1000, help="prompts that are timed")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.formats:
        fitting = count_agents(FORMATS[name], options.budget_mb * 10**6, options.agent_tokens)
        timed = time_turns(FORMATS[name], options.prompt_tokens, options.rounds)
        results[name] = {**fitting, **timed}
        p50 = {key: each["p50"] for key, each in timed.items() if isinstance(each, dict)}
        print(
            f"{name}: {fitting['num_agents']} agents of {options.agent_tokens} tokens in"
            f" {options.budget_mb} MB, {fitting['kv_bytes_per_token']} bytes a token;"
            f" first token {p50['cold_ttft_s']:.2f} s cold, {p50['hot_ttft_s']:.3f} s hot;"
            f" {p50['decode_tokens_per_s']:.0f} tokens/s, {p50['batch_tokens_per_s']:.0f} in four",
            flush=True,
        )
    fits = against_16_bit(results)
    for name, times in fits.items():
        print(f"{name}: {times:.2f} times the agents of 16 bit (4 bit: {TARGET_AGAINST_16_BIT})")
    budget = {"budget_bytes": options.budget_mb * 10**6, "agent_tokens": options.agent_tokens}
    print(write_result("kv_formats", {**budget, "against_16_bit": fits, **results}))


def against_16_bit(results: dict[str, Any]) -> dict[str, float]:
    """How many times more agents fit than with 16 bits, by the bytes of a token."""
    if LOSSLESS not in results:
        return {}
    lossless = results[LOSSLESS]
    bytes_16_bit = lossless["kv_bytes_per_token"] * 16 / DTYPE_BITS[lossless["dtype"]]
    return {name: bytes_16_bit / result["kv_bytes_per_token"] for name, result in results.items()}


if __name__ == "__main__":
    main()
