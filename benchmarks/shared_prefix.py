"""Ten agents that share a prefix of 3K tokens: what they cost in RAM, on disk, and in time.

Usage: ``python -m benchmarks.shared_prefix [--mlx-lm] [--llama-server PATH]``. Every agent has the
same system prompt and a question of its own, and all ask at once. One agent alone on a server of
its own is what they are measured against. Stock mlx prefills a dozen tokens a second here, so
``mlx_lm.server`` is compared by time with the same ten agents on a shorter prefix, on both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.chat_client import Messages, chat, converse_together
from benchmarks.cpu_profile import bundled_model
from benchmarks.peers import Stoker, add_peer_options, peers
from benchmarks.results_file import summarize, write_result
from benchmarks.returning_agent import COUNTRIES, prompt
from benchmarks.servers import Server

NUM_AGENTS = 10
NUM_REPLY_TOKENS = 16
TARGET_TIMES_ONE_AGENT = 1.3


def conversation(prefix_tokens: int, number: int) -> Messages:
    """The shared system prompt and one agent's own question."""
    country = COUNTRIES[number % len(COUNTRIES)]
    question = f"I am visitor number {number}. What is the capital of {country}, and why?"
    return [
        {"role": "system", "content": prompt(prefix_tokens, 0)},
        {"role": "user", "content": question},
    ]


def run_agents(server: Server, prefix_tokens: int, num_agents: int) -> dict[str, Any]:
    """All agents at once, on a server that knows none of them."""
    chat(server.port, "Say hello.", 2, "warm-up")
    talks = [conversation(prefix_tokens, number) for number in range(num_agents)]
    began_s = time.monotonic()
    streams = converse_together(server.port, talks, NUM_REPLY_TOKENS, "visitor")
    return {
        "prefix_tokens": prefix_tokens,
        "num_agents": num_agents,
        "total_s": max(stream.end_s for stream in streams) - began_s,
        "ttft_s": summarize([stream.ttft_s for stream in streams]),
    }


def measure_stoker(folder: Path, model: str, prefix_tokens: int, num_agents: int) -> dict[str, Any]:
    """Time of a fresh Stoker, and the bytes that the agents leave in RAM and on disk."""
    contestant = Stoker(folder, model)
    with contestant.server as server:
        before = _bytes(server)
        result = run_agents(server, prefix_tokens, num_agents)
        agents = [f"visitor-{number}" for number in range(num_agents)]
        for agent in agents:
            contestant.save(agent)
        after = _bytes(server)
        own = _own_bytes(server, agents)
    return {**result, **{name: after[name] - before[name] for name in after}, **own}


def _bytes(server: Server) -> dict[str, int]:
    state = server.call("/admin/state")
    return {
        "ram_bytes": state["pool"]["bytes_used"],
        "mlx_active_bytes": state["device_detail"]["memory_active_bytes"],
        "disk_bytes": state["disk"]["bytes_used"],
    }


def _own_bytes(server: Server, agents: list[str]) -> dict[str, int]:
    """What no other agent has: in RAM in whole blocks, on disk in tokens."""
    state = server.call("/admin/state")
    block_bytes, block_tokens = state["pool"]["block_bytes"], state["pool"]["block_tokens"]
    rows = [server.call(f"/v1/agents/{agent}") for agent in agents]
    num_own_tokens = sum(
        row["num_context_tokens"] - row["shared_bytes"] // block_bytes * block_tokens
        for row in rows
    )
    return {
        "own_ram_bytes": sum(row["hot_bytes"] - row["shared_bytes"] for row in rows),
        "own_disk_bytes": num_own_tokens * state["model_detail"]["kv_bytes_per_token"],
    }


def compare_bytes(one: dict[str, Any], all_: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The agents' bytes against one agent's: all of them, and without each agent's own tail."""
    return {
        place: {
            "times_one_agent": all_[f"{place}_bytes"] / one[f"{place}_bytes"],
            "times_one_agent_without_tails": (
                (all_[f"{place}_bytes"] - all_[f"own_{place}_bytes"]) / one[f"{place}_bytes"]
            ),
        }
        for place in ("ram", "disk")
    }


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix-tokens", type=int, default=3072)
    parser.add_argument(
        "--short-prefix-tokens", type=int, default=256, help="prefix for the run on stock mlx"
    )
    parser.add_argument("--agents", type=int, default=NUM_AGENTS)
    add_peer_options(parser)
    options = parser.parse_args()
    model = str(bundled_model())
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as name:
        folder = Path(name)
        sizes = {"long": options.prefix_tokens, "short": options.short_prefix_tokens}
        results: dict[str, Any] = {
            "one_agent": measure_stoker(folder / "one", model, options.prefix_tokens, 1)
        }
        for size, num_tokens in sizes.items():
            results[size] = {
                "stoker": measure_stoker(folder / size, model, num_tokens, options.agents)
            }
        for peer, make in peers(options, folder, model, num_slots=options.agents).items():
            for size in ("long", "short") if peer == "llama_server" else ("short",):
                with make().server as server:
                    results[size][peer] = run_agents(server, sizes[size], options.agents)
    results["bytes"] = compare_bytes(results["one_agent"], results["long"]["stoker"])
    _show(results)
    print(write_result("shared_prefix", results))


def _show(results: dict[str, Any]) -> None:
    for place, ratios in results["bytes"].items():
        total, shared = ratios["times_one_agent"], ratios["times_one_agent_without_tails"]
        verdict = "within" if shared <= TARGET_TIMES_ONE_AGENT else "over"
        print(
            f"{place}: {total:.2f} times one agent's, {shared:.2f} without tails:"
            f" {verdict} {TARGET_TIMES_ONE_AGENT}"
        )
    for size in ("long", "short"):
        ours = results[size]["stoker"]["total_s"]
        for name, run in results[size].items():
            print(
                f"{run['num_agents']} agents, prefix of {run['prefix_tokens']} tokens, {name}:"
                f" {run['total_s']:.1f} s, {run['total_s'] / ours:.1f} times Stoker's"
            )


if __name__ == "__main__":
    main()
