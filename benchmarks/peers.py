"""What is compared: Stoker and its peers, each with what it can do for an agent that comes back.

A peer lies in an environment of its own, outside this one; a benchmark takes the path of its
executable and leaves it out where none is given (``docs/benchmarks.md`` says how to make them).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from benchmarks.servers import Server, mlx_lm, stoker
from engine.models.bundled import find_gguf

CONTEXT_TOKENS = 8192
SAVE_LIMIT_S = 60.0


class Contestant(Protocol):
    """A server, and how its caches leave memory and come back.

    Attributes:
        server: The server.
        states: The states that it knows, of ``returning_agent.STATES``.
    """

    server: Server
    states: tuple[str, ...]

    def save(self, agent: str) -> None:
        """Has an agent's cache on disk when it returns."""

    def set_aside(self, agent: str) -> None:
        """Has it on disk and no longer in memory."""

    def bring_back(self, agent: str) -> None:
        """What a client has to do before the agent's next turn finds what is on disk."""


class Stoker:
    """Saves by itself, and finds by itself what was saved."""

    states: tuple[str, ...] = ("cold", "again", "hot", "other", "warm", "restart")

    def __init__(self, home: Path, model: str) -> None:
        """Names its data folder and its model."""
        self.server = stoker(home, model)

    def save(self, agent: str) -> None:
        """Waits until all of an agent's cache is on disk."""
        path = f"/v1/agents/{agent}"

        def is_saved() -> bool:
            row = self.server.call(path)
            return 0 < int(row["hot_bytes"]) <= int(row["warm_bytes"])

        await_true(is_saved)
        # The row counts whole blocks; the tail is acknowledged with the table, right after.
        time.sleep(0.5)

    def set_aside(self, agent: str) -> None:
        """Evicts it."""
        self.save(agent)
        self.server.call(f"/v1/agents/{agent}/evict", "POST")

    def bring_back(self, agent: str) -> None:
        """Nothing."""


class LlamaServer:
    """llama.cpp's server with one slot; a slot is saved and restored by hand."""

    states: tuple[str, ...] = ("cold", "again", "hot", "other", "warm", "restart")

    def __init__(self, executable: Path, folder: Path, num_slots: int = 1) -> None:
        """Names the program and the folder for its slots.

        Args:
            executable: ``llama-server``.
            folder: Where slots are saved.
            num_slots: Conversations at once, each with the whole context.
        """
        gguf = find_gguf()
        if gguf is None:
            raise FileNotFoundError("the bundled model's file is not installed: run `make setup`")
        folder.mkdir(parents=True, exist_ok=True)

        def command(port: int) -> list[str]:
            serve = [str(executable), "--model", str(gguf), "--port", str(port), "--no-webui"]
            slots = ["--parallel", str(num_slots), "--slot-save-path", f"{folder}/"]
            return [*serve, *slots, "--ctx-size", str(CONTEXT_TOKENS * num_slots)]

        self.server = Server(command, "/health")

    def save(self, agent: str) -> None:
        """Writes the slot, which holds the agent that was there last."""
        self.server.call("/slots/0?action=save", "POST", {"filename": f"{agent}.bin"})

    def set_aside(self, agent: str) -> None:
        """Writes the slot and empties it."""
        self.save(agent)
        self.server.call("/slots/0?action=erase", "POST", {})

    def bring_back(self, agent: str) -> None:
        """Reads the slot."""
        self.server.call("/slots/0?action=restore", "POST", {"filename": f"{agent}.bin"})


class InMemory:
    """A server whose caches do not outlive a kill: afterwards every agent is cold."""

    states: tuple[str, ...] = ("cold", "again", "hot", "other")

    def __init__(self, server: Server) -> None:
        """Takes the server."""
        self.server = server

    def save(self, agent: str) -> None:
        """Nothing."""

    def set_aside(self, agent: str) -> None:
        """Nothing."""

    def bring_back(self, agent: str) -> None:
        """Nothing."""


def vllm_mlx(executable: Path, model: str) -> Server:
    """vllm-mlx with continuous batching, on a model folder."""

    def command(port: int) -> list[str]:
        serve = [str(executable), "serve", model, "--port", str(port), "--offline"]
        return [*serve, "--served-model-name", "default_model", "--continuous-batching"]

    return Server(command, "/health", {"HF_HUB_OFFLINE": "1"})


def await_true(holds: Callable[[], bool]) -> None:
    """Waits until something is so.

    Raises:
        TimeoutError: It did not come true.
    """
    deadline_s = time.monotonic() + SAVE_LIMIT_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError("the disk did not take the cache")
        time.sleep(0.05)


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where the peers are."""
    parser.add_argument("--llama-server", type=Path, metavar="PATH", help="llama.cpp's server")
    parser.add_argument("--vllm-mlx", type=Path, metavar="PATH", help="the vllm-mlx command")
    parser.add_argument(
        "--mlx-lm", action="store_true", help="mlx_lm.server too, which is part of this one"
    )


def peers(
    options: argparse.Namespace, folder: Path, model: str, *, num_slots: int = 1
) -> dict[str, Callable[[], Contestant]]:
    """The peers that were asked for, by name; says which were not.

    Args:
        options: With what ``add_peer_options`` added.
        folder: Where they may write.
        model: The model's folder.
        num_slots: Conversations at once, for a peer that has to know.
    """
    found: dict[str, Callable[[], Contestant]] = {}
    if options.llama_server:
        slots = folder / "slots"
        found["llama_server"] = lambda: LlamaServer(options.llama_server, slots, num_slots)
    if options.mlx_lm:
        found["mlx_lm_server"] = lambda: InMemory(mlx_lm(Path(model)))
    if options.vllm_mlx:
        found["vllm_mlx"] = lambda: InMemory(vllm_mlx(options.vllm_mlx, model))
    for name in ("llama_server", "mlx_lm_server", "vllm_mlx"):
        if name not in found:
            print(f"{name}: skipped: not given")
    return found
