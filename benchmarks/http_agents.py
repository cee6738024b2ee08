"""Eight agents of mixed prompt lengths over HTTP: Stoker against mlx-lm's own server.

Usage: ``python -m benchmarks.http_agents``. Both servers are processes of their own, run one after
the other on the same weights, and answer the same greedy requests.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.chat_client import Stream, chat, chat_together
from benchmarks.cpu_profile import bundled_model
from benchmarks.results_file import summarize, write_result
from benchmarks.servers import mlx_lm_server, stoker_server

WORDS = [
    "river",
    "stone",
    "lamp",
    "garden",
    "copper",
    "violet",
    "engine",
    "harbour",
    "paper",
    "winter",
]
PROMPT_WORDS = (10, 20, 40, 60, 90, 130, 180, 250)
QUESTION = "Write a long story that uses these words: "


def prompts(seed: int) -> list[str]:
    """Prompts of mixed length whose beginnings differ, so that nothing is shared."""
    return [
        f"Story {seed}-{number}. {QUESTION}"
        + " ".join(WORDS[(number * 3 + i * (seed + 1)) % len(WORDS)] for i in range(num_words))
        for number, num_words in enumerate(PROMPT_WORDS)
    ]


def measure(port: int, num_tokens: int, rounds: int) -> dict[str, Any]:
    """Rates of one server."""
    chat(port, "Say hello.", 4, "warm-up")
    runs = [
        chat_together(port, prompts(seed), num_tokens, f"round{seed}") for seed in range(rounds)
    ]
    streams = [stream for streams in runs for stream in streams]
    return {
        "tokens_per_s": summarize([_aggregate(streams) for streams in runs]),
        "decode_tokens_per_s": summarize([decode_rate(streams) for streams in runs]),
        "ttft_s": summarize([stream.ttft_s for stream in streams]),
        "gap_s": summarize([gap for stream in streams for gap in _gaps(stream)]),
        "num_tokens": sum(stream.num_tokens for stream in streams),
        "texts": [stream.text for stream in runs[0]],
    }


def _aggregate(streams: list[Stream]) -> float:
    """Generated tokens per second from the first request to the last piece, prefill included."""
    began_s = min(stream.sent_s for stream in streams)
    return sum(stream.num_tokens for stream in streams) / (_end(streams) - began_s)


def decode_rate(streams: list[Stream]) -> float:
    """Pieces per second once every agent has its first token, until the first one ends."""
    from_s = max(stream.pieces_s[0] for stream in streams)
    until_s = min(stream.end_s for stream in streams)
    if until_s <= from_s:
        return 0.0
    pieces = [at for stream in streams for at in stream.pieces_s if from_s < at <= until_s]
    return len(pieces) / (until_s - from_s)


def _gaps(stream: Stream) -> list[float]:
    return [b - a for a, b in zip(stream.pieces_s, stream.pieces_s[1:], strict=False)]


def _end(streams: list[Stream]) -> float:
    return max(stream.end_s for stream in streams)


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64, help="generated tokens per agent")
    parser.add_argument("--rounds", type=int, default=3, help="rounds on Stoker")
    parser.add_argument("--peer-rounds", type=int, default=1, help="rounds on mlx_lm.server")
    options = parser.parse_args()
    model_dir = bundled_model()
    with (
        tempfile.TemporaryDirectory(prefix="stoker-bench-") as home,
        stoker_server(Path(home), str(model_dir)) as port,
    ):
        stoker = measure(port, options.tokens, options.rounds)
    with mlx_lm_server(model_dir) as port:
        peer = measure(port, options.tokens, options.peer_rounds)
    ratios = {
        name: stoker[name]["p50"] / peer[name]["p50"] if peer[name]["p50"] else None
        for name in ("tokens_per_s", "decode_tokens_per_s", "ttft_s")
    }
    same = sum(a == b for a, b in zip(stoker["texts"], peer["texts"], strict=True))
    results = {"stoker": stoker, "mlx_lm_server": peer, "ratio": ratios, "num_same_texts": same}
    for name, ratio in ratios.items():
        print(f"{name}: {stoker[name]['p50']:.2f} against {peer[name]['p50']:.2f}, ratio {ratio}")
    print(f"{same} of {len(PROMPT_WORDS)} texts equal")
    print(write_result("http_agents", {"num_tokens": options.tokens, **results}))


if __name__ == "__main__":
    main()
