"""What the API and the dashboard cost: decode speed of eight agents without and with them.

Usage: ``python -m benchmarks.dashboard_cost``. Three set-ups take turns: the engine alone, the
engine behind ``stoker serve`` with eight streaming clients, and behind the full dashboard on a
120x40 terminal with eight streaming clients. Then keys are pressed while eight more answers stream.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks.chat_client import Stream, chat_together
from benchmarks.cpu_profile import bundled_model
from benchmarks.engine_child import run_together, started_engine
from benchmarks.http_agents import decode_rate, prompts
from benchmarks.results_file import summarize, write_result
from benchmarks.servers import await_ready, free_port, stoker_server
from benchmarks.terminal import Terminal
from engine.commands import Shutdown

KEYS = {
    "select": (("j", "▌"), ("k", "▌")),
    "maximise": (("z", "agents"), ("z", "throughput")),
    "help": (("?", "Keys"), ("?", "throughput")),
}
"""Pairs of keys that undo each other, and what each must draw."""
KEY_PAUSE_S = 0.15
KEYS_IN_A_ROW = 10


def engine_alone(num_tokens: int, seed: int, home: Path, model: str) -> list[Stream]:
    """Eight turns straight on an engine of this process, timed by its own sinks."""
    engine = started_engine({"model": model}, str(home))
    turns = [(f"a{number}", prompt) for number, prompt in enumerate(prompts(seed))]
    streams = run_together(engine, turns, num_tokens)
    engine.send(Shutdown(drain_s=0.0))
    engine.join(30)
    return streams


def behind_server(num_tokens: int, seed: int, home: Path, model: str) -> list[Stream]:
    """Eight clients of ``stoker serve``."""
    with stoker_server(home, model) as port:
        return chat_together(port, prompts(seed), num_tokens, "serve")


def behind_dashboard(
    num_tokens: int, seed: int, home: Path, model: str
) -> tuple[list[Stream], dict[str, list[float]]]:
    """Eight clients of the full program, and how long keys took to show while they streamed."""
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "--port", str(port), "--model", model]
    terminal = Terminal(command, {"STOKER_HOME": str(home)})
    latencies: dict[str, list[float]] = {name: [] for name in KEYS}
    try:
        await_ready(port)
        streams = chat_together(port, prompts(seed), num_tokens, "dashboard")
        over = threading.Event()
        presser = threading.Thread(target=_press_keys, args=(terminal, latencies, over))
        presser.start()
        chat_together(port, prompts(seed), num_tokens, "keys")
        over.set()
        presser.join(30)
    finally:
        terminal.close("q")
    return streams, latencies


def _press_keys(
    terminal: Terminal, latencies: dict[str, list[float]], over: threading.Event
) -> None:
    for name in itertools.cycle(KEYS):
        for number in range(KEYS_IN_A_ROW):
            if over.wait(KEY_PAUSE_S) and number % 2 == 0:
                return
            latencies[name].append(terminal.press(*KEYS[name][number % 2]))


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=128, help="generated tokens per agent")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = str(bundled_model())
    rates: dict[str, list[float]] = {"engine": [], "serve": [], "dashboard": []}
    latencies: dict[str, list[float]] = {name: [] for name in KEYS}
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        home = Path(folder)
        for seed in range(options.rounds):
            rates["engine"].append(decode_rate(engine_alone(options.tokens, seed, home, model)))
            rates["serve"].append(decode_rate(behind_server(options.tokens, seed, home, model)))
            streams, key_times = behind_dashboard(options.tokens, seed, home, model)
            rates["dashboard"].append(decode_rate(streams))
            for name, seconds in key_times.items():
                latencies[name] += seconds
    results: dict[str, Any] = {name: summarize(samples) for name, samples in rates.items()}
    engine = results["engine"]["p50"]
    results["cost"] = {name: 1 - results[name]["p50"] / engine for name in ("serve", "dashboard")}
    everything = [seconds for samples in latencies.values() for seconds in samples]
    keys = {name: summarize(samples) for name, samples in latencies.items()}
    keys["all"] = summarize(everything)
    results["key_to_repaint_s"] = keys
    for name in rates:
        print(f"{name}: {results[name]['p50']:.1f} tokens/s")
    print(f"cost: {results['cost']}")
    for name, key in keys.items():
        print(f"key {name}: p50 {key['p50'] * 1000:.0f} ms, p99 {key['p99'] * 1000:.0f} ms")
    print(write_result("dashboard_cost", {"num_tokens": options.tokens, **results}))


if __name__ == "__main__":
    main()
