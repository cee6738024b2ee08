"""What the dashboard costs, and how soon it answers, on a machine that decodes for eight agents.

Usage: ``python -m benchmarks.dashboard [--parts load paint slow replay]``. ``load`` compares decode
behind ``stoker serve`` and behind the full dashboard, both with 10 000 blocks, and presses keys
while eight answers stream. ``paint`` times starts against a bare Textual program. ``slow`` asks the
API for short replies while the dashboard's terminal takes 50 kB a second. ``replay`` plays an hour
at 20 times its speed, and watches the memory.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from app.recording.writer import RecordingWriter
from benchmarks.chat_client import Stream, chat, chat_together
from benchmarks.cpu_profile import bundled_model
from benchmarks.http_agents import decode_rate, prompts
from benchmarks.results_file import summarize, write_result
from benchmarks.servers import Server, await_ready, free_port
from benchmarks.startup import COMPILED, demo_paint_s, first_paint_s
from benchmarks.terminal import Terminal
from engine.scripted_world import DemoWorld

KEYS = {
    "select": (("j", "▌"), ("k", "▌")),
    "maximise": (("z", "agents"), ("z", "throughput")),
    "help": (("?", "Keys"), ("?", "throughput")),
}
"""Pairs of keys that undo each other, and what each must draw."""
KEY_PAUSE_S = 0.15
KEYS_IN_A_ROW = 10
NUM_BLOCKS = 10_000
SLOW_BYTES_S = 50_000
REDRAW_S = 0.4
NUM_BACKGROUND = 3
RECORDED_S = 3600
SAMPLES_A_SECOND = 4
REPLAY_SPEED = 20
SETTLE_S = 20.0
WATCH_S = 2.0
BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("all is there")
Bare().run()
"""
"""The least that Textual can draw."""


def _command(model: str, port: int, *first: str) -> list[str]:
    child = [sys.executable, "-m", "benchmarks.large_pool_child", str(NUM_BLOCKS)]
    return [*child, *first, "--port", str(port), "--model", model]


@contextmanager
def headless(home: Path, model: str) -> Iterator[int]:
    """``stoker serve`` with the large pool; yields its port."""

    def command(port: int) -> list[str]:
        return _command(model, port, "serve", "--quiet")

    with Server(command, "/health/ready", {"STOKER_HOME": str(home)}) as server:
        yield server.port


@contextmanager
def dashboard(
    home: Path, model: str, num_bytes_s: int | None = None
) -> Iterator[tuple[int, Terminal]]:
    """The full program with the large pool on a 120x40 terminal; yields its port too."""
    port = free_port()
    environment = {"STOKER_HOME": str(home)}
    terminal = Terminal(_command(model, port), environment, num_bytes_s=num_bytes_s)
    try:
        await_ready(port)
        yield port, terminal
    finally:
        terminal.close("q")


def ui_seconds(pid: int) -> float:
    """Seconds of processor time that the thread of the dashboard has taken: the main one."""
    threads = {each.id: each for each in psutil.Process(pid).threads()}
    return threads[pid].user_time + threads[pid].system_time


# Decode beside it, and keys


def load(num_tokens: int, num_key_tokens: int, rounds: int, home: Path, model: str) -> Any:
    """Decode with and without the dashboard in turns, and what keys take meanwhile."""
    rates: dict[str, list[float]] = {"headless": [], "dashboard": []}
    shares, drawn = [], []
    latencies: dict[str, list[float]] = {name: [] for name in KEYS}
    for seed in range(rounds):
        with headless(home, model) as port:
            rates["headless"].append(_decoded(port, num_tokens, seed))
        with dashboard(home, model) as (port, terminal):
            chat_together(port, prompts(seed), 8, "warm-up")
            began_s, used_s = time.perf_counter(), ui_seconds(terminal.pid)
            num_drawn = len(terminal.output)
            rates["dashboard"].append(_decoded(port, num_tokens, seed))
            seconds = time.perf_counter() - began_s
            shares.append((ui_seconds(terminal.pid) - used_s) / seconds)
            drawn.append((len(terminal.output) - num_drawn) / seconds)
            for name, times in keys_under_load(port, terminal, num_key_tokens, seed).items():
                latencies[name] += times
    results: dict[str, Any] = {name: summarize(samples) for name, samples in rates.items()}
    everything = [seconds for samples in latencies.values() for seconds in samples]
    keys = {name: summarize(samples) for name, samples in latencies.items()}
    return {
        "num_blocks": NUM_BLOCKS,
        "tokens_per_s": results,
        "of_headless": results["dashboard"]["p50"] / results["headless"]["p50"],
        "ui_thread_share": summarize(shares),
        "drawn_bytes_per_s": summarize(drawn),
        "key_to_repaint_s": {**keys, "all": summarize(everything)},
    }


def _decoded(port: int, num_tokens: int, seed: int) -> float:
    return decode_rate(chat_together(port, prompts(seed), num_tokens, f"round{seed}"))


def keys_under_load(
    port: int, terminal: Terminal, num_tokens: int, seed: int
) -> dict[str, list[float]]:
    """How long keys take to show while eight answers stream."""
    latencies: dict[str, list[float]] = {name: [] for name in KEYS}
    over = threading.Event()
    presser = threading.Thread(target=_press_keys, args=(terminal, latencies, over))
    presser.start()
    chat_together(port, prompts(seed), num_tokens, "keys")
    over.set()
    presser.join(30)
    return latencies


def _press_keys(
    terminal: Terminal, latencies: dict[str, list[float]], over: threading.Event
) -> None:
    terminal.type("g")  # from the first agent on, so that there is one below it
    for name in itertools.cycle(KEYS):
        for number in range(KEYS_IN_A_ROW):
            if over.wait(KEY_PAUSE_S) and number % 2 == 0:
                return
            latencies[name].append(terminal.press(*KEYS[name][number % 2]))


# Starts


def bare_paint_s() -> float:
    """Seconds from the start of a bare Textual program to its first screen."""
    began_s = time.perf_counter()
    terminal = Terminal([sys.executable, "-c", BARE], COMPILED)
    terminal.wait_for("all is there", 60)
    seconds = time.perf_counter() - began_s
    terminal.close("\x11")
    return seconds


def paint(rounds: int, home: Path, model: str) -> Any:
    """First paints, a bare Textual program's among them."""
    measures: dict[str, Callable[[], float]] = {
        "bare_textual": bare_paint_s,
        "stoker": lambda: first_paint_s(home, model),
        "stoker_demo": demo_paint_s,
    }
    for measure in measures.values():
        measure()  # compiles what is not compiled yet
    samples: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            samples[name].append(measure())
    return {f"{name}_s": summarize(values) for name, values in samples.items()}


# A terminal that is slow


def slow(num_turns: int, rounds: int, home: Path, model: str) -> Any:
    """First tokens of short turns, without a dashboard, with one, and with one on a slow line."""
    ttfts: dict[str, list[float]] = {"headless": [], "dashboard": [], "slow_dashboard": []}
    for _ in range(rounds):
        with headless(home, model) as port:
            ttfts["headless"] += short_turns(port, num_turns)
        for name, num_bytes_s in (("dashboard", None), ("slow_dashboard", SLOW_BYTES_S)):
            with dashboard(home, model, num_bytes_s) as (port, terminal), redrawing(terminal):
                ttfts[name] += short_turns(port, num_turns)
    return {"terminal_bytes_per_s": SLOW_BYTES_S, "ttft_s": _summaries(ttfts)}


def _summaries(samples: dict[str, list[float]]) -> dict[str, Any]:
    return {name: summarize(values) for name, values in samples.items()}


def short_turns(port: int, num_turns: int) -> list[float]:
    """Times to first token of turns one after the other, while other agents' answers stream."""
    others: list[Stream] = []
    asked = prompts(num_turns)[:NUM_BACKGROUND]
    crowd = threading.Thread(
        target=lambda: others.extend(chat_together(port, asked, 40 * num_turns, "crowd"))
    )
    chat(port, "Say hello.", 4, "warm-up")
    crowd.start()
    times = [chat(port, f"Say {at}.", 4, f"short{at}").ttft_s for at in range(num_turns)]
    crowd.join()
    return times


@contextmanager
def redrawing(terminal: Terminal) -> Iterator[None]:
    """Has most of the screen drawn anew, again and again."""
    over = threading.Event()

    def press() -> None:
        while not over.wait(REDRAW_S):
            terminal.type("z")

    presser = threading.Thread(target=press)
    presser.start()
    try:
        yield
    finally:
        over.set()
        presser.join()


# An hour of replay


def record_hour(path: Path) -> int:
    """Records an hour of the demo; returns the bytes of the file."""
    world = DemoWorld(epoch_s=0.0)
    writer = RecordingWriter(path, "127.0.0.1:8000", 0.0)
    for sample in range(RECORDED_S * SAMPLES_A_SECOND):
        at_s = sample / SAMPLES_A_SECOND
        writer.add(at_s, world.advance(at_s))
    writer.close()
    return path.stat().st_size


def replay(seconds: float, home: Path) -> Any:
    """Memory and processor time of a replay that goes fast.

    Args:
        seconds: How long it is watched; a 20th of an hour for all of it.
        home: Where the recording goes.
    """
    path = home / "hour.rec"
    num_file_bytes = record_hour(path)
    command = [sys.executable, "-m", "app.cli", "replay", str(path), "--speed", str(REPLAY_SPEED)]
    terminal = Terminal(command, {"STOKER_HOME": str(home)})
    try:
        terminal.wait_for("blocks", 60)
        process = psutil.Process(terminal.pid)
        time.sleep(SETTLE_S)
        began_s, used_s = time.monotonic(), ui_seconds(terminal.pid)
        sizes: list[int] = []
        while time.monotonic() - began_s < seconds - SETTLE_S:
            time.sleep(WATCH_S)
            sizes.append(process.memory_info().rss)
        share = (ui_seconds(terminal.pid) - used_s) / (time.monotonic() - began_s)
    finally:
        terminal.close("q")
    tenth = max(1, len(sizes) // 10)
    first, last = statistics.median(sizes[:tenth]), statistics.median(sizes[-tenth:])
    return {
        "speed": REPLAY_SPEED,
        "watched_s": seconds - SETTLE_S,
        "recording_bytes": num_file_bytes,
        "rss_bytes": {"first_tenth": first, "last_tenth": last, "most": max(sizes)},
        "growth_bytes": last - first,
        "ui_thread_share": share,
    }


def main() -> None:
    """Runs the parts and writes their results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["load", "paint", "slow", "replay"])
    parser.add_argument("--tokens", type=int, default=256, help="per agent, for decode rates")
    parser.add_argument("--key-tokens", type=int, default=900, help="per agent, while keys go")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paints", type=int, default=9, help="starts of each program")
    parser.add_argument("--turns", type=int, default=25, help="short turns a round and side")
    parser.add_argument("--replay-s", type=float, default=RECORDED_S / REPLAY_SPEED)
    told = parser.parse_args()
    results: dict[str, Any] = {"load_average_before": psutil.getloadavg()}
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        home = Path(folder)
        parts: dict[str, Callable[[str], Any]] = {
            "load": lambda model: load(told.tokens, told.key_tokens, told.rounds, home, model),
            "paint": lambda model: paint(told.paints, home, model),
            "slow": lambda model: slow(told.turns, told.rounds, home, model),
            "replay": lambda _: replay(told.replay_s, home),
        }
        for name in told.parts:
            results[name] = parts[name](str(bundled_model()))
            print(f"{name}: {_told(results[name])}")
    results["load_average_after"] = psutil.getloadavg()
    print(write_result("dashboard", results))


def _told(value: Any) -> Any:
    """A result without its raw samples, for a person."""
    if not isinstance(value, dict):
        return value
    return {name: _told(each) for name, each in value.items() if name != "raw"}


if __name__ == "__main__":
    main()
