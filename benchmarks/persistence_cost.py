"""What writing caches to disk costs a running decode.

Usage: ``python -m benchmarks.persistence_cost``. Two engines, one with the warm tier and one
without, each in a process of its own, take turns at the same work: long answers, so that every few
seconds a block is full and on its way to the disk, first of one agent, then of four at once. Each
pair of runs gives one ratio; the order within pairs alternates, so that drift cancels out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.chat_client import Stream
from benchmarks.child import Child
from benchmarks.cpu_profile import bundled_model
from benchmarks.http_agents import decode_rate
from benchmarks.results_file import summarize, write_result

BATCHES = (1, 4)
TARGET = 0.03
SIDES: dict[str, dict[str, object]] = {"on": {}, "off": {"kv_disk_bytes": 0}}
SUBJECTS = ("a river", "a lamp", "a garden", "a harbour", "a winter", "an engine", "a copper pot")


def question(number: int, batch: int) -> list[tuple[str, str]]:
    """Agents and prompts of one run, unlike those of any other."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    return [
        (
            f"agent-{batch}-{number}-{at}",
            f"Story {number}-{at}. Write a very long story about {subject}, chapter by chapter.",
        )
        for at in range(batch)
    ]


def measure(children: dict[str, Child], batch: int, num_tokens: int, pairs: int) -> dict[str, Any]:
    """Decode rates of both sides, and what each pair lost by writing.

    Args:
        children: The engines.
        batch: Agents at once.
        num_tokens: Tokens that each generates.
        pairs: Runs of each side.
    """
    rates: dict[str, list[float]] = {side: [] for side in children}
    lengths: list[int] = []
    num_blocks = 0
    for number in range(pairs):
        order = list(children) if number % 2 else list(children)[::-1]
        for side in order:
            answer = children[side].ask(turns=question(number, batch), num_tokens=num_tokens)
            streams = [Stream(pieces_s=pieces) for pieces in answer["pieces_s"]]
            rates[side].append(decode_rate(streams))
            lengths += [len(pieces) for pieces in answer["pieces_s"]]
            num_blocks = max(num_blocks, answer["num_disk_blocks"])
    costs = [1 - on / off for on, off in zip(rates["on"], rates["off"], strict=True)]
    return {
        "tokens_per_s": {side: summarize(samples) for side, samples in rates.items()},
        "cost": summarize(costs),
        "shortest_answer_tokens": min(lengths),
        "num_blocks_written": num_blocks,
    }


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=800, help="generated tokens per agent")
    parser.add_argument("--pairs", type=int, default=4, help="runs of each side")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    options = parser.parse_args()
    model = str(bundled_model())
    results: dict[str, Any] = {"num_tokens": options.tokens, "target": TARGET}
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        children: dict[str, Child] = {}
        try:
            for side, settings in SIDES.items():
                given = json.dumps({"model": model, **settings})
                children[side] = Child("engine_child", given, Path(folder) / side)
                children[side].ask(turns=[("warm-up", "Say hello.")], num_tokens=16)
            for batch in options.batches:
                results[f"batch_{batch}"] = measure(children, batch, options.tokens, options.pairs)
        finally:
            for child in children.values():
                child.close()
    for batch in options.batches:
        result = results[f"batch_{batch}"]
        rates = {side: round(rate["p50"], 1) for side, rate in result["tokens_per_s"].items()}
        cost = result["cost"]["p50"]
        verdict = "within" if cost <= TARGET else "over"
        print(
            f"batch {batch}: {rates} tokens/s, cost {cost:.1%} ({verdict} {TARGET:.0%}),"
            f" {result['num_blocks_written']} blocks written"
        )
    print(write_result("persistence_cost", results))


if __name__ == "__main__":
    main()
