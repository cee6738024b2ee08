"""Servers under test: processes of their own on loopback, started and ended here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_LIMIT_S = 180.0


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def stoker_server(home: Path, model: str = "bundled") -> Iterator[int]:
    """``stoker serve`` on its own data folder; yields its port when it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "serve", "--quiet"]
    command += ["--port", str(port), "--model", model]
    with _process(command, {"STOKER_HOME": str(home)}):
        await_ready(port)
        yield port


@contextmanager
def mlx_lm_server(model_dir: Path) -> Iterator[int]:
    """mlx-lm's own server on a model folder; yields its port when it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "mlx_lm.server", "--model", str(model_dir)]
    command += ["--port", str(port), "--log-level", "ERROR"]
    with _process(command, {"HF_HUB_OFFLINE": "1"}):
        _await(f"http://127.0.0.1:{port}/v1/models")
        yield port


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def await_ready(port: int) -> None:
    """Waits until a Stoker on that port takes turns."""
    _await(f"http://127.0.0.1:{port}/health/ready")


def _await(url: str) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"{url} did not answer")
