"""Starting: ``--help``, the first paint, a server that is ready, its weight before the model.

Usage: ``python -m benchmarks.startup``. The bundled model is converted beforehand.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.cpu_profile import bundled_model
from benchmarks.results_file import summarize, write_result
from benchmarks.servers import ROOT, free_port, stoker_server
from benchmarks.terminal import Terminal

COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
"""An installed program finds its modules compiled, whatever the environment here says."""
STOKER = [sys.executable, "-m", "app.cli"]


def help_s() -> float:
    """Seconds that ``stoker --help`` takes."""
    began_s = time.perf_counter()
    subprocess.run([*STOKER, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began_s


def first_paint_s(home: Path, model: str) -> float:
    """Seconds from the start of the process to the first screen."""
    began_s = time.perf_counter()
    command = [*STOKER, "--port", str(free_port()), "--model", model]
    terminal = Terminal(command, {"STOKER_HOME": str(home), **COMPILED})
    terminal.wait_for("getting ready", 60)
    seconds = time.perf_counter() - began_s
    terminal.close("qq")
    return seconds


def demo_paint_s() -> float:
    """The same for ``stoker demo``."""
    began_s = time.perf_counter()
    terminal = Terminal([*STOKER, "demo"], COMPILED)
    terminal.wait_for("blocks", 60)
    seconds = time.perf_counter() - began_s
    terminal.close("qq")
    return seconds


def ready_s(home: Path, model: str) -> float:
    """Seconds from the start of ``stoker serve`` to the first answer of its readiness check."""
    began_s = time.perf_counter()
    with stoker_server(home, model):
        return time.perf_counter() - began_s


def footprint_before_model_mb(home: Path, model: str) -> float:
    """Memory of ``stoker serve`` when everything is imported and weights begin to be read, in MB.

    Raises:
        RuntimeError: It ended, or nobody saw it begin.
    """
    port = free_port()
    command = [*STOKER, "serve", "--quiet", "--port", str(port), "--model", model]
    environment = {**os.environ, "STOKER_HOME": str(home)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    process = psutil.Process(server.pid)
    try:
        while server.poll() is None:
            num_bytes = process.memory_info().rss
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{port}/admin/state"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    state = json.load(answer)
                if state["status_text"] == "reading weights":
                    return num_bytes / 1e6
                if state["status"] == "serving":
                    break
            time.sleep(0.005)
    finally:
        server.terminate()
        server.wait(60)
    raise RuntimeError("nobody saw the weights being read")


def mlx_lm_load_s(model: str) -> float:
    """Seconds that a process takes to import mlx-lm and load the same model."""
    began_s = time.perf_counter()
    program = "import sys, mlx_lm; mlx_lm.load(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, model], cwd=ROOT, check=True)
    return time.perf_counter() - began_s


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = str(bundled_model())
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        home = Path(folder)
        # Build the kernels, and compile the modules, once.
        ready_s(home, model)
        first_paint_s(home, model)
        demo_paint_s()
        measures: dict[str, Callable[[], float]] = {
            "help_s": help_s,
            "demo_first_paint_s": demo_paint_s,
            "first_paint_s": lambda: first_paint_s(home, model),
            "serve_ready_s": lambda: ready_s(home, model),
            "mlx_lm_import_and_load_s": lambda: mlx_lm_load_s(model),
            "before_model_mb": lambda: footprint_before_model_mb(home, model),
        }
        samples: dict[str, list[float]] = {name: [] for name in measures}
        for _ in range(options.rounds):
            for name, measure in measures.items():
                samples[name].append(measure())
    results = {name: summarize(values) for name, values in samples.items()}
    for name, result in results.items():
        print(f"{name}: p50 {result['p50']:.2f} p99 {result['p99']:.2f}")
    print(write_result("startup", results))


if __name__ == "__main__":
    main()
