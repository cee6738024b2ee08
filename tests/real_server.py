"""``stoker serve`` with the real model, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.servers import free_port

START_LIMIT_S = 120.0
WAIT_LIMIT_S = 60.0


class RealServer:
    """A running server and what its clients see of it."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        """Starts it; ``await_ready`` waits until it serves.

        Args:
            home: Where it keeps its things.
            settings: Environment variables without their prefix, as in ``API_KEY``.
        """
        self.home = home
        port = free_port()
        variables = {f"STOKER_{name}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--quiet", "--port", str(port)],
            env={**os.environ, "STOKER_HOME": str(home), **variables},
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)

    def await_ready(self) -> None:
        """Waits until it takes turns."""
        deadline_s = time.monotonic() + START_LIMIT_S
        while not self._is_ready():
            assert self.process.poll() is None, "it ended"
            assert time.monotonic() < deadline_s
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            return self.http.get("/health/ready").is_success
        except httpx.TransportError:
            return False

    def ask(
        self,
        agent: str,
        text: str,
        *,
        system: str = "",
        key: str = "",
        max_tokens: int = 8,
    ) -> httpx.Response:
        """One turn of an agent."""
        headers = {"x-agent-id": agent} | ({"x-api-key": key} if key else {})
        body: dict[str, Any] = {
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": text}],
        }
        if system:
            body["system"] = system
        return self.http.post("/v1/messages", json=body, headers=headers)

    def state(self, key: str = "") -> dict[str, Any]:
        """The engine's snapshot."""
        reply = self.http.get("/admin/state", headers={"x-api-key": key} if key else {})
        state: dict[str, Any] = reply.raise_for_status().json()
        return state

    def await_state(self, holds: Callable[[dict[str, Any]], bool], key: str = "") -> None:
        """Waits until something can be seen in the snapshot."""
        deadline_s = time.monotonic() + WAIT_LIMIT_S
        while not holds(self.state(key)):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    @property
    def footprint_bytes(self) -> int:
        """Memory of the process now."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process ever had, on Linux."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def kill(self) -> None:
        """Ends it without a word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> int:
        """Ends it as a user would."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def real_server(home: Path, **settings: str) -> Iterator[RealServer]:
    """A server that is ready, and is gone afterwards."""
    server = RealServer(home, settings)
    try:
        server.await_ready()
        yield server
    finally:
        server.stop()
