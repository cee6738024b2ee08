"""A change of model under streaming clients: who is lost, what it takes, what memory stays.

Usage: ``python -m benchmarks.swap``. The two models are the bundled one and the same with its
weights in 8 bits, which is made beforehand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.cpu_profile import bundled_model
from benchmarks.results_file import summarize, write_result
from benchmarks.servers import ROOT, stoker

LIMIT_S = 300.0
PARTS = ("prepare_s", "drain_s", "save_s", "unload_s", "load_s", "check_s", "rebuild_s", "total_s")
_CONVERT = """
import sys, mlx_lm
mlx_lm.convert(sys.argv[1], sys.argv[2], quantize=True, q_bits=8)
"""
_LOAD = """
import json, sys, time, mlx_lm
seconds = []
for _ in range(int(sys.argv[2]) + 1):
    began_s = time.perf_counter()
    model = mlx_lm.load(sys.argv[1])
    seconds.append(time.perf_counter() - began_s)
    del model
print(json.dumps(seconds[1:]))
"""
_MEMORY = """
import json, sys, time
from pathlib import Path
from app.compose import engine_settings
from app.config import load_settings
from app.paths import HOME_VARIABLE, find_paths
from engine.model_host import ModelHost
from engine.telemetry import Telemetry

settings = load_settings({"model": sys.argv[1]})
paths = find_paths({HOME_VARIABLE: sys.argv[2]})
host = ModelHost(
    engine_settings(settings, paths, keeps_caches=False), Telemetry(time.time), lambda act: act()
)
tell = lambda share, text: None
host.load_first(tell)
from engine.runtime.device_memory import give_back_memory, read_memory

rows = []
for _ in range(int(sys.argv[3])):
    loaded = read_memory()
    host.save(0.0)
    found = host.unload()
    empty = read_memory()
    rows.append([loaded.active_bytes, loaded.footprint_bytes, empty.active_bytes,
                 empty.footprint_bytes])
    host.load(found, tell, time.monotonic())
print(json.dumps(rows))
"""


@dataclass
class Client:
    """One agent that streams turn after turn.

    Attributes:
        ends: How each turn ended: ``done``, or what came instead.
        gaps_s: Seconds from each request to its first byte of text.
    """

    url: str
    name: str
    is_over: threading.Event
    ends: list[str] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Asks until it is over."""
        text = f"I am {self.name}. " + "Tell me about the river behind the house. " * 20
        body = {
            "stream": True,
            "max_tokens": 24,
            "messages": [{"role": "user", "content": text}],
        }
        with httpx.Client(base_url=self.url, timeout=LIMIT_S, trust_env=False) as http:
            while not self.is_over.is_set():
                self.ends.append(self._turn(http, body))

    def _turn(self, http: httpx.Client, body: dict[str, Any]) -> str:
        began_s = time.perf_counter()
        headers = {"x-agent-id": self.name}
        last = ""
        with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply:
            if reply.status_code != 200:
                return str(reply.status_code)
            for line in reply.iter_lines():
                if line.startswith("data: ") and not last:
                    self.gaps_s.append(time.perf_counter() - began_s)
                last = line or last
        return "done" if last == "data: [DONE]" else last[:200]


def swaps(home: Path, models: tuple[str, str], num_clients: int, rounds: int) -> dict[str, Any]:
    """Changes to the other model and back, so many times.

    Returns:
        Parts of every change, how turns ended, and memory at each return.
    """
    with stoker(home, models[0]) as server:
        is_over = threading.Event()
        url = f"http://127.0.0.1:{server.port}"
        clients = [Client(url, f"agent-{n}", is_over) for n in range(num_clients)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        parts: list[dict[str, float]] = []
        memory: list[tuple[int, int]] = []
        cached: list[int] = []
        with httpx.Client(base_url=url, timeout=LIMIT_S, trust_env=False) as http:
            for number in range(2 * rounds):
                time.sleep(2.0)
                target = models[(number + 1) % 2]
                reply = http.post("/admin/models/swap", json={"model": target})
                parts.append(reply.raise_for_status().json()["parts"])
                if number % 2:
                    time.sleep(2.0)
                    state = http.get("/admin/state").raise_for_status().json()
                    device = state["device_detail"]
                    memory.append((device["memory_active_bytes"], device["memory_used_bytes"]))
                    cached += [
                        row["num_cached_tokens"] for row in state["agents"] if row["num_turns"]
                    ]
        is_over.set()
        for thread in threads:
            thread.join(LIMIT_S)
    ends = [end for client in clients for end in client.ends]
    return {
        "parts": {name: summarize([each[name] for each in parts]) for name in PARTS},
        "overhead": summarize([overhead(each) for each in parts]),
        "num_turns": len(ends),
        "lost": [end for end in ends if end != "done"],
        "longest_wait_s": max(max(client.gaps_s) for client in clients),
        "memory_active_and_used_bytes": memory,
        "cached_tokens_after_return": cached,
    }


def overhead(parts: dict[str, float]) -> float:
    """What a change costs beyond unload and load, while nothing is served, as a share of these.

    The new model is prepared and turns are drained while turns run, so that is not counted.
    """
    needed_s = parts["unload_s"] + parts["load_s"] + parts["check_s"]
    return (parts["total_s"] - parts["prepare_s"] - parts["drain_s"]) / needed_s - 1.0


def child(program: str, *arguments: str) -> str:
    """Runs a program of its own; returns what it printed last."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip().rpartition("\n")[2]


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        home = Path(folder)
        models = (str(bundled_model()), str(home / "eight-bits"))
        child(_CONVERT, *models)
        result: dict[str, Any] = swaps(home / "home", models, options.clients, options.rounds)
        result["mlx_lm_load_s"] = {
            name: summarize(json.loads(child(_LOAD, model, str(options.rounds))))
            for name, model in zip(("bundled", "eight_bits"), models, strict=True)
        }
        rows = json.loads(child(_MEMORY, models[0], str(home / "other"), str(options.rounds)))
    columns = ("loaded_active", "loaded_footprint", "unloaded_active", "unloaded_footprint")
    result["memory_bytes"] = dict(zip(columns, zip(*rows, strict=True), strict=True))
    for name in PARTS:
        print(f"{name}: p50 {result['parts'][name]['p50']:.2f}")
    print(f"overhead: p50 {result['overhead']['p50']:.1%}")
    print(f"{result['num_turns']} turns, lost: {result['lost']}")
    print(write_result("swap", result))


if __name__ == "__main__":
    main()
