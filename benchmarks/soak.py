"""Mixed traffic on one server for half an hour: does anything grow, and are answers still right?

Usage: ``python -m benchmarks.soak [--seconds 1800]``, or ``make soak``. Several agents talk and are
asked what they were asked at the beginning; others leave in the middle of their turns, one by one
and in storms; caches are evicted, pinned, forked and removed all the while, the model is changed
for another of the same weights, and a dashboard looks on. The time is cut into laps. After each
all clients rest, everybody is evicted, and memory, threads, open files and blocks that are still
held are read. Ends with status 1 where something grows, breaks or is wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.cpu_profile import bundled_model
from benchmarks.results_file import write_result
from benchmarks.servers import Server, stoker
from benchmarks.soak_traffic import Traffic
from benchmarks.terminal import Terminal

NUM_LAPS = 6
KV_BYTES = 300_000_000
"""Too little for what the agents have together, so that some are always evicted."""
DISK_BYTES = 1_000_000_000
REST_LIMIT_S = 120.0
KEY_LIMIT_S = 30.0
ATTACH_LIMIT_S = 60.0
SETTLE_S = 3.0
MAX_GROWTH_SHARE = 0.05
MAX_DASHBOARD_GROWTH_SHARE = 0.25
"""Its charts and events go back an hour, and fill up meanwhile."""
MAX_MORE_THREADS = 4
MAX_MORE_FILES = 4


@dataclass(frozen=True, kw_only=True)
class Lap:
    """What was there after a lap, at rest.

    Attributes:
        ended_s: When, in seconds from the beginning.
        footprint_bytes: Memory of the process, with the caches that the lap left.
        evicted_bytes: The same once everybody was evicted.
        num_threads: Its threads.
        num_files: Its open files.
        num_held_blocks: Blocks that somebody holds although everybody was evicted.
        num_agents: Agents that are known.
        dashboard_bytes: Memory of the dashboard that looks on.
    """

    ended_s: float
    footprint_bytes: int
    evicted_bytes: int
    num_threads: int
    num_files: int
    num_held_blocks: int
    num_agents: int
    dashboard_bytes: int


def rest(traffic: Traffic, process: psutil.Process, screen: Terminal, began_s: float) -> Lap:
    """Waits until nothing runs, and reads what is there.

    Raises:
        TimeoutError: Something goes on although nobody asks, or the dashboard obeys no key.
    """
    _await_idle(traffic)
    footprint_bytes = process.memory_info().rss
    traffic.check_all()
    traffic.tidy_up()
    _await_idle(traffic)
    for key, expected in (("?", "Keys"), ("?", "throughput")):
        screen.press(key, expected, KEY_LIMIT_S)
    time.sleep(SETTLE_S)
    state = traffic.state()
    pool = state["pool"]
    num_idle = pool["num_free_blocks"] + pool["num_cached_blocks"]
    return Lap(
        ended_s=time.monotonic() - began_s,
        footprint_bytes=footprint_bytes,
        evicted_bytes=process.memory_info().rss,
        num_threads=process.num_threads(),
        num_files=process.num_fds(),
        num_held_blocks=pool["num_total_blocks"] - num_idle,
        num_agents=len(state["agents"]),
        dashboard_bytes=psutil.Process(screen.pid).memory_info().rss,
    )


def _await_idle(traffic: Traffic) -> None:
    deadline_s = time.monotonic() + REST_LIMIT_S
    while (batch := traffic.state()["batch"])["num_running"] or batch["num_waiting"]:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"turns go on although nobody asks: {batch}")
        time.sleep(0.2)


def slope_bytes_per_h(laps: list[Lap]) -> float:
    """How fast memory grows, by a straight line through all laps but the first."""
    times = [lap.ended_s for lap in laps[1:]]
    sizes = [lap.footprint_bytes for lap in laps[1:]]
    return float(np.polyfit(times, sizes, 1)[0]) * 3600 if len(times) > 1 else 0.0


def findings(laps: list[Lap], faults: list[str]) -> list[str]:
    """What is not as it was promised, in words; the first lap fills what is bounded.

    Args:
        laps: At least two.
        faults: What clients complained of.
    """
    before, after = laps[1], laps[-1]
    found = list(faults)
    for name, first, last, share in (
        ("memory", before.footprint_bytes, after.footprint_bytes, MAX_GROWTH_SHARE),
        (
            "the dashboard's memory",
            before.dashboard_bytes,
            after.dashboard_bytes,
            MAX_DASHBOARD_GROWTH_SHARE,
        ),
    ):
        if last > first * (1 + share):
            found.append(f"{name} grew by {last / first - 1:.1%} after the second lap")
    if after.num_threads > before.num_threads + MAX_MORE_THREADS:
        found.append(f"threads: {before.num_threads}, then {after.num_threads}")
    if after.num_files > before.num_files + MAX_MORE_FILES:
        found.append(f"open files: {before.num_files}, then {after.num_files}")
    found += [f"{lap.num_held_blocks} blocks are still held" for lap in laps if lap.num_held_blocks]
    return found


def twin(model: Path, folder: Path) -> Path:
    """A model of the same weights that is another one to Stoker.

    Args:
        model: A model's folder.
        folder: Where the other one is put.
    """
    other = folder / f"{model.name}-twin"
    other.mkdir()
    for file in model.iterdir():
        if file.name != "config.json":
            shutil.copyfile(file, other / file.name)
    config = json.loads((model / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "is_twin": True}), "utf-8")
    return other


def soak(server: Server, models: tuple[str, ...], seconds: float, num_laps: int) -> dict[str, Any]:
    """Runs the laps.

    Args:
        server: Runs already.
        models: What the active model is changed between.
        seconds: All laps together.
        num_laps: At least two.
    """
    traffic = Traffic(server.port, models=models)
    process = psutil.Process(server.pid)
    traffic.learn()
    url = f"http://127.0.0.1:{server.port}"
    screen = Terminal([sys.executable, "-m", "app.cli", "attach", url], {})
    screen.wait_for("throughput", ATTACH_LIMIT_S)
    began_s = time.monotonic()
    laps: list[Lap] = []
    for number in range(num_laps):
        traffic.run(seconds / num_laps)
        laps.append(rest(traffic, process, screen, began_s))
        print(f"lap {number + 1}: {laps[-1]}, {dict(traffic.tally.counts)}", flush=True)
    status = screen.close("q")
    faults = [*traffic.tally.faults, *([f"the dashboard ended with {status}"] if status else [])]
    return {
        "findings": findings(laps, faults),
        "memory_slope_bytes_per_h": slope_bytes_per_h(laps),
        "counts": dict(traffic.tally.counts),
        "laps": [asdict(lap) for lap in laps],
        "throughput": traffic.state()["throughput"],
    }


def main() -> int:
    """Runs the soak and writes its result.

    Returns:
        The exit status: 1 where something was found.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of traffic")
    parser.add_argument("--laps", type=int, default=NUM_LAPS, help="at least two")
    options = parser.parse_args()
    settings = {"STOKER_KV_BUDGET_BYTES": str(KV_BYTES), "STOKER_KV_DISK_BYTES": str(DISK_BYTES)}
    with tempfile.TemporaryDirectory(prefix="stoker-soak-") as folder:
        model = bundled_model()
        models = (str(model), str(twin(model, Path(folder))))
        with stoker(Path(folder, "home"), models[0], environment=settings) as server:
            result = soak(server, models, options.seconds, max(2, options.laps))
    print(write_result("soak", {"seconds": options.seconds, **result}))
    for finding in result["findings"]:
        print(f"found: {finding}", file=sys.stderr)
    print(f"memory: {result['memory_slope_bytes_per_h'] / 1e6:+.1f} MB/h; {result['counts']}")
    return 1 if result["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
