"""Prefill and decode of the CPU profile against stock mlx-lm, in one run, on the same weights.

Usage: ``python -m benchmarks.cpu_profile [--model FOLDER]``. Each side is a process of its own, so
that stock mlx-lm never sees the profile's kernels; the sides take turns, so that noise meets all.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.child import ROOT, Child
from benchmarks.results_file import summarize, write_result

KINDS = ("stock", "numpy", "native")
SEED = 7
BATCH = 8


def measure_prefill(
    children: dict[str, Child], prompt: list[int], rounds: int
) -> dict[str, dict[str, Any]]:
    """Tokens per second of the prompt for each side; the stock side runs fewer rounds."""
    for child in children.values():
        child.ask(measure="prefill", token_ids=prompt[:32])
    rates: dict[str, list[float]] = {kind: [] for kind in children}
    for at in range(rounds):
        for kind, child in children.items():
            repeats = 1 if kind == "stock" else 3
            for _ in range(repeats if at < 2 or kind != "stock" else 0):
                answer = child.ask(measure="prefill", token_ids=prompt)
                rates[kind].append(len(prompt) / answer["seconds"])
    return {kind: summarize(samples) for kind, samples in rates.items()}


def measure_decode(
    children: dict[str, Child], prompt: list[int], num_tokens: int, batch: int
) -> dict[str, dict[str, Any]]:
    """Tokens per second over the batch for each side, step by step, and the tokens chosen."""
    results = {}
    for kind, child in children.items():
        answer = child.ask(measure="decode", token_ids=prompt, num_tokens=num_tokens, batch=batch)
        results[kind] = {
            **summarize([batch / seconds for seconds in answer["seconds"]]),
            "token_ids": answer["token_ids"],
        }
    return results


def with_ratios(sides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Adds how many times faster than stock the median of each side is."""
    stock = sides["stock"]["p50"]
    ratios = {kind: side["p50"] / stock for kind, side in sides.items() if kind != "stock"}
    tokens = [side["token_ids"] for side in sides.values() if "token_ids" in side]
    same = {"same_tokens": all(each == tokens[0] for each in tokens)} if tokens else {}
    return {"unit": "tokens/s", "sides": sides, "ratio_to_stock": ratios, **same}


def run(model_dir: Path, num_prompt_tokens: int, rounds: int) -> dict[str, Any]:
    """All measurements."""
    prompt = [random.Random(SEED).randrange(20, 49_000) for _ in range(num_prompt_tokens)]
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as cache_dir:
        children: dict[str, Child] = {}
        try:
            for kind in KINDS:
                children[kind] = Child("cpu_profile_child", kind, model_dir, cache_dir)
            prefill = measure_prefill(children, prompt, rounds)
            single = measure_decode(children, prompt[:128], 24, 1)
            batch = measure_decode(children, prompt[:32], 10, BATCH)
        finally:
            for child in children.values():
                child.close()
    return {
        "seed": SEED,
        "num_prompt_tokens": num_prompt_tokens,
        "prefill": with_ratios(prefill),
        "decode_single": with_ratios(single),
        f"decode_batch_{BATCH}": with_ratios(batch),
    }


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model folder; default: the bundled model")
    parser.add_argument("--prompt-tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2, help="prefill rounds")
    options = parser.parse_args()
    results = run(options.model or bundled_model(), options.prompt_tokens, options.rounds)
    for name, result in results.items():
        if isinstance(result, dict):
            rates = {kind: round(side["p50"], 1) for kind, side in result["sides"].items()}
            ratios = {kind: round(ratio, 1) for kind, ratio in result["ratio_to_stock"].items()}
            print(f"{name}: {rates} tokens/s; times stock: {ratios}")
    print(write_result("cpu_profile", results))


def bundled_model() -> Path:
    """The bundled model, converted once into the folder that the tests use too."""
    from engine.models import bundled

    return bundled.ensure(ROOT / ".test-models", lambda _share, _text: None)


if __name__ == "__main__":
    main()
