"""Time to first token of an agent that comes back: cold, hot, from disk, and after ``kill -9``.

Usage: ``python -m benchmarks.returning_agent``. For each length an agent sends the same prompt
to a ``stoker serve``: first unknown (cold), then at once (hot), then after its cache was evicted to
disk (warm), then to a new process after the old one was killed (restart).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.chat_client import chat
from benchmarks.cpu_profile import bundled_model
from benchmarks.results_file import summarize, write_result
from benchmarks.servers import ROOT, await_ready, free_port

NUM_TOKENS = (1000, 2000, 4000, 7000)
NUM_REPLY_TOKENS = 3
STATES = ("cold", "hot", "warm", "restart")
WORDS = ("river", "stone", "lamp", "garden", "copper", "violet", "engine", "harbour")


class Server:
    """``stoker serve`` on a data folder."""

    def __init__(self, home: Path, model: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "app.cli", "serve", "--quiet"]
        command += ["--port", str(self.port), "--model", model]
        environment = {"STOKER_HOME": str(home), "PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        await_ready(self.port)

    def call(self, path: str, method: str = "GET") -> Any:
        """A request without a body."""
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as reply:
            return json.load(reply)

    def row(self, agent: str) -> Any:
        """An agent's row of the snapshot."""
        return self.call(f"/v1/agents/{agent}")

    def await_saved(self, agent: str) -> None:
        """Waits until all of an agent's cache is on disk."""
        _await(lambda: 0 < self.row(agent)["hot_bytes"] <= self.row(agent)["warm_bytes"])
        # The row counts whole blocks; the tail is acknowledged with the table, right after.
        time.sleep(0.5)


def _await(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError("the disk did not take the cache")
        time.sleep(0.05)


def prompt(num_tokens: int, number: int) -> str:
    """A text of about that many tokens that begins like no other."""
    words = (WORDS[(i * 7 + i * i * (number + 1)) % len(WORDS)] for i in range(num_tokens - 60))
    text = " ".join(words)
    return f"Text {number} of {num_tokens}: {text}. What is the capital of France?"


def measure(home: Path, model: str, rounds: int) -> dict[int, dict[str, list[float]]]:
    """Seconds to the first token, by length and state."""
    samples: dict[int, dict[str, list[float]]] = {
        length: {state: [] for state in STATES} for length in NUM_TOKENS
    }
    server = Server(home, model)
    try:
        for number in range(rounds):
            server = _measure_round(server, home, model, number, samples)
    finally:
        server.process.kill()
        server.process.wait()
    return samples


def _measure_round(
    server: Server,
    home: Path,
    model: str,
    number: int,
    samples: dict[int, dict[str, list[float]]],
) -> Server:
    """One sample of each; returns the server that runs afterwards."""
    chat(server.port, "Say hello.", 2, "warm-up")
    for length in NUM_TOKENS:
        agent, text = f"agent-{length}-{number}", prompt(length, number)
        times = samples[length]
        times["cold"].append(chat(server.port, text, NUM_REPLY_TOKENS, agent).ttft_s)
        times["hot"].append(chat(server.port, text, NUM_REPLY_TOKENS, agent).ttft_s)
        server.await_saved(agent)
        server.call(f"/v1/agents/{agent}/evict", "POST")
        times["warm"].append(chat(server.port, text, NUM_REPLY_TOKENS, agent).ttft_s)
        server.await_saved(agent)
    server.process.kill()
    server.process.wait()
    server = Server(home, model)
    chat(server.port, "Say hello.", 2, "warm-up")
    for length in NUM_TOKENS:
        agent, text = f"agent-{length}-{number}", prompt(length, number)
        restarted = chat(server.port, text, NUM_REPLY_TOKENS, agent)
        samples[length]["restart"].append(restarted.ttft_s)
    return server


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as home:
        samples = measure(Path(home), str(bundled_model()), options.rounds)
    results: dict[str, Any] = {}
    for length, times in samples.items():
        states = {state: summarize(values) for state, values in times.items()}
        cold = states["cold"]["p50"]
        ratios = {state: cold / states[state]["p50"] for state in STATES[1:]}
        results[str(length)] = {"ttft_s": states, "times_faster_than_cold": ratios}
        shown = ", ".join(f"{state} {states[state]['p50']:.3f} s" for state in STATES)
        print(f"{length} tokens: {shown}; 1/{', 1/'.join(f'{r:.0f}' for r in ratios.values())}")
    print(write_result("returning_agent", results))


if __name__ == "__main__":
    main()
