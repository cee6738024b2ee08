"""Servers under test: processes of their own on loopback, started and ended here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent
START_LIMIT_S = 180.0
CALL_LIMIT_S = 120.0

Command = Callable[[int], list[str]]
"""The command line of a server, for the port it is to listen on."""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server that can be killed and started again; a context that stops it at the end."""

    def __init__(
        self, command: Command, ready_path: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Says how it is started.

        Args:
            command: Its command line.
            ready_path: What answers 200 once it takes requests.
            environment: Added to our own.
        """
        self.port = 0
        self._command = command
        self._ready_path = ready_path
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it on a free port and waits until it is ready.

        Raises:
            RuntimeError: It ended instead; the message has its last words.
            TimeoutError: It did not answer.
        """
        self.port = free_port()
        with tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                self._command(self.port),
                cwd=ROOT,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            try:
                _await(f"http://127.0.0.1:{self.port}{self._ready_path}", self._process)
            except RuntimeError as error:
                said.seek(0)
                last_words = said.read().decode(errors="replace").strip()[-500:]
                raise RuntimeError(f"{error}: {last_words}") from None

    def kill(self) -> None:
        """Ends it as a power cut would: ``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def stop(self) -> None:
        """Asks it to end, and kills it if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def pid(self) -> int:
        """Its process.

        Raises:
            RuntimeError: It was not started.
        """
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    def call(self, path: str, method: str = "GET", body: object = None) -> Any:
        """One request and its JSON answer.

        Args:
            path: Path on the server.
            method: HTTP method.
            body: Sent as JSON; None sends nothing.
        """
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=CALL_LIMIT_S) as answer:
            return json.load(answer)

    def __enter__(self) -> Self:
        """Starts it."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stops it."""
        self.stop()


def stoker(
    home: Path,
    model: str = "bundled",
    flags: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Server:
    """``stoker serve`` on its own data folder, with flags and ``STOKER_*`` settings."""

    def command(port: int) -> list[str]:
        serve = [sys.executable, "-m", "app.cli", "serve", "--quiet"]
        return [*serve, "--port", str(port), "--model", model, *flags]

    return Server(command, "/health/ready", {"STOKER_HOME": str(home), **(environment or {})})


def mlx_lm(model_dir: Path) -> Server:
    """mlx-lm's own server on a model folder."""

    def command(port: int) -> list[str]:
        serve = [sys.executable, "-m", "mlx_lm.server", "--log-level", "ERROR"]
        return [*serve, "--model", str(model_dir), "--port", str(port)]

    return Server(command, "/v1/models", {"HF_HUB_OFFLINE": "1"})


@contextmanager
def stoker_server(home: Path, model: str = "bundled") -> Iterator[int]:
    """``stoker serve`` on its own data folder; yields its port when it is ready."""
    with stoker(home, model) as server:
        yield server.port


@contextmanager
def mlx_lm_server(model_dir: Path) -> Iterator[int]:
    """mlx-lm's own server on a model folder; yields its port when it is ready."""
    with mlx_lm(model_dir) as server:
        yield server.port


def await_ready(port: int) -> None:
    """Waits until a Stoker on that port takes turns."""
    _await(f"http://127.0.0.1:{port}/health/ready")


def _await(url: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:  # refused, reset, too slow, or an answer that is not 200
            time.sleep(0.1)
    raise TimeoutError(f"{url} did not answer")
