"""What HTTP costs: turns over a socket against the same turns straight on the same engine.

Usage: ``python -m benchmarks.http_overhead``. One process has the engine and the API. It is asked
in turns over HTTP and straight, so that both meet the same caches and the same neighbours: single
turns for the time to the first piece, eight together for the speed of decoding. Then hundreds of
streams wait behind the turn of one agent, and another agent's turns are timed beside them.

The time to the first piece over HTTP includes what a request has to go through in any case:
reading it as JSON, rendering it with the chat template, and turning it into tokens.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.chat_client import Stream, as_user, chat, chat_together, open_stream
from benchmarks.child import Child
from benchmarks.cpu_profile import bundled_model
from benchmarks.http_agents import decode_rate, prompts
from benchmarks.results_file import summarize, write_result
from benchmarks.servers import free_port

NUM_STREAMS = 8
SHORT = "Say hello."
CROWD = "crowd"
CROWD_TOKENS = 6000
"""The turn that the others wait for must outlast what is measured beside it."""
SETTLE_LIMIT_S = 60.0


class Sides:
    """The same engine, straight and over HTTP."""

    def __init__(self, home: Path, model: str, max_waiting: int) -> None:
        """Starts it.

        Args:
            home: Its data folder.
            model: Its model.
            max_waiting: Turns that may wait.
        """
        self.port = free_port()
        words = (str(self.port), home, model, str(max_waiting))
        self._child = Child("http_overhead_child", *words)

    def straight(self, asked: list[str], num_tokens: int, tag: str) -> list[Stream]:
        """Turns on the engine itself."""
        turns = [(f"{tag}-{number}", prompt) for number, prompt in enumerate(asked)]
        answer = self._child.ask(turns=turns, num_tokens=num_tokens)
        columns = (answer[name] for name in ("sent_s", "pieces_s", "num_tokens", "texts"))
        return [Stream(*row) for row in zip(*columns, strict=True)]

    def over_http(self, asked: list[str], num_tokens: int, tag: str) -> list[Stream]:
        """The same turns by clients."""
        return chat_together(self.port, asked, num_tokens, tag)

    def state(self) -> dict[str, Any]:
        """Memory, and how many turns wait."""
        return self._child.ask(turns=[], num_tokens=0)

    def await_waiting(self, num: int) -> dict[str, Any]:
        """Waits until so many turns wait."""
        deadline_s = time.monotonic() + SETTLE_LIMIT_S
        while (state := self.state())["num_waiting"] != num:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{state['num_waiting']} turns wait, not {num}")
            time.sleep(0.1)
        return state

    def close(self) -> None:
        """Ends it."""
        self._child.close()


def first_pieces(sides: Sides, num_pairs: int) -> dict[str, Any]:
    """Time to the first piece of single turns, straight and over HTTP in turns."""
    samples: dict[str, list[float]] = {"straight_s": [], "http_s": []}
    for number in range(num_pairs):
        ways = [("straight_s", sides.straight), ("http_s", sides.over_http)]
        for name, ask in ways if number % 2 else reversed(ways):
            samples[name] += [stream.ttft_s for stream in ask([SHORT], 1, "one")]
    results = {name: summarize(values) for name, values in samples.items()}
    return {**results, "cost_s": results["http_s"]["p50"] - results["straight_s"]["p50"]}


def decoding(sides: Sides, num_rounds: int, num_tokens: int) -> dict[str, Any]:
    """Decode speed of eight streams, straight and over HTTP in turns.

    Raises:
        RuntimeError: The answers differ.
    """
    samples: dict[str, list[float]] = {"straight": [], "http": []}
    for number in range(num_rounds):
        ways = [("straight", sides.straight), ("http", sides.over_http)]
        texts = []
        for name, ask in ways if number % 2 else reversed(ways):
            streams = ask(prompts(0)[:NUM_STREAMS], num_tokens, "eight")
            samples[name].append(decode_rate(streams))
            texts.append([stream.text for stream in streams])
        if texts[0] != texts[1]:
            raise RuntimeError("the answers differ")
    results: dict[str, Any] = {name: summarize(values) for name, values in samples.items()}
    results["cost"] = 1 - results["http"]["p50"] / results["straight"]["p50"]
    results["cost_per_token_s"] = 1 / results["http"]["p50"] - 1 / results["straight"]["p50"]
    return results


def beside_a_crowd(sides: Sides, num_streams: int, num_probes: int) -> dict[str, Any]:
    """An agent's turns beside one stream that runs, and beside hundreds that wait for it."""
    before = sides.state()
    with _crowd(sides.port, 1):
        alone = _probes(sides, num_probes)
    sides.await_waiting(0)
    with _crowd(sides.port, num_streams):
        held = sides.await_waiting(num_streams - 1)
        crowded = _probes(sides, num_probes)
    after = sides.await_waiting(0)
    grown = held["footprint_bytes"] - before["footprint_bytes"]
    return {
        "num_streams": num_streams,
        "ttft_beside_one_s": summarize(alone),
        "ttft_beside_all_s": summarize(crowded),
        "bytes_per_stream": grown / num_streams,
        "footprint_bytes": {
            "before": before["footprint_bytes"],
            "held": held["footprint_bytes"],
            "after": after["footprint_bytes"],
        },
    }


@contextmanager
def _crowd(port: int, num_streams: int) -> Iterator[list[socket.socket]]:
    """Streams of one agent, of which one runs and the others wait."""
    open_streams: list[socket.socket] = []
    try:
        for _ in range(num_streams):
            stream = open_stream(port, as_user("Tell a long story."), CROWD, CROWD_TOKENS)
            open_streams.append(stream)
        yield open_streams
    finally:
        for each in open_streams:
            each.close()


def _probes(sides: Sides, num_probes: int) -> list[float]:
    return [chat(sides.port, SHORT, 1, "probe").ttft_s for _ in range(num_probes)]


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100, help="single turns each way")
    parser.add_argument("--rounds", type=int, default=6, help="of eight streams each way")
    parser.add_argument("--tokens", type=int, default=128, help="generated tokens per stream")
    parser.add_argument("--streams", type=int, default=500, help="streams that are held")
    parser.add_argument("--probes", type=int, default=60, help="turns beside them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as home:
        sides = Sides(Path(home), str(bundled_model()), 2 * options.streams)
        try:
            first_pieces(sides, 3)
            for ask in (sides.straight, sides.over_http):
                ask(prompts(0)[:NUM_STREAMS], 8, "eight")
            results = {
                "first_piece": first_pieces(sides, options.pairs),
                "decode": decoding(sides, options.rounds, options.tokens),
                "crowd": beside_a_crowd(sides, options.streams, options.probes),
            }
        finally:
            sides.close()
    first, decode, crowd = results["first_piece"], results["decode"], results["crowd"]
    print(f"first piece: {first['cost_s'] * 1000:.2f} ms of HTTP")
    print(f"decode at {NUM_STREAMS}: {decode['cost']:.1%} of HTTP")
    for name in ("ttft_beside_one_s", "ttft_beside_all_s"):
        print(
            f"{name}: p50 {crowd[name]['p50'] * 1000:.1f} ms, p99 {crowd[name]['p99'] * 1000:.1f}"
        )
    print(f"bytes per held stream: {crowd['bytes_per_stream'] / 1000:.0f} kB")
    print(write_result("http_overhead", {"num_tokens": options.tokens, **results}))


if __name__ == "__main__":
    main()
