"""What the API and the dashboard cost: decode speed of eight agents without and with them.

Usage: ``python -m benchmarks.dashboard_cost``. Three set-ups take turns: the engine alone, the
engine behind ``stoker serve`` with eight streaming clients, and behind the full dashboard on a
120x40 terminal with eight streaming clients. Then keys are pressed while eight more answers stream.
"""

from __future__ import annotations

import argparse
import itertools
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.compose import build_engine
from app.config import load_settings
from app.paths import HOME_VARIABLE, find_paths
from benchmarks.chat_client import Stream, chat_together
from benchmarks.cpu_profile import bundled_model
from benchmarks.http_agents import decode_rate, prompts
from benchmarks.results_file import summarize, write_result
from benchmarks.servers import await_ready, free_port, stoker_server
from benchmarks.terminal import Terminal
from engine.commands import Generate, Shutdown
from engine.messages import Message, Role
from engine.request import Delta, Request, SamplingParams

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
    engine = build_engine(load_settings({"model": model}), find_paths({HOME_VARIABLE: str(home)}))
    engine.start()
    while engine.chat_format is None:
        if engine.join(0.05):
            raise RuntimeError(engine.snapshot.status_text)
    chat = engine.chat_format
    streams: list[Stream] = []
    done: queue.SimpleQueue[Delta] = queue.SimpleQueue()
    for number, prompt in enumerate(prompts(seed)):
        stream = Stream(sent_s=time.monotonic())
        streams.append(stream)
        request = Request(
            request_id=f"r{number}",
            agent_id=f"a{number}",
            prompt_token_ids=chat.render_chat([Message(role=Role.USER, text=prompt)]),
            sampling=SamplingParams(max_tokens=num_tokens),
        )
        engine.send(Generate(request=request, sink=_timing_sink(stream, done)))
    for _ in streams:
        done.get(timeout=600)
    engine.send(Shutdown(drain_s=0.0))
    engine.join(30)
    return streams


def _timing_sink(stream: Stream, done: queue.SimpleQueue[Delta]) -> Callable[[Delta], None]:
    def sink(delta: Delta) -> None:
        if delta.text:
            stream.pieces_s.append(time.monotonic())
        stream.num_tokens += len(delta.token_ids)
        if delta.finish_reason is not None:
            done.put(delta)

    return sink


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
