"""A server that is killed, on the real model: what it had acknowledged as saved is used again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.servers import await_ready, free_port

STOKER = [sys.executable, "-m", "app.cli"]
SYSTEM = "You are careful. " + "Follow the rules of this house and explain yourself well. " * 40


class Server:
    """``stoker serve`` in a process of its own."""

    def __init__(self, home: Path) -> None:
        self._port = free_port()
        self.process = subprocess.Popen(
            [*STOKER, "serve", "--quiet", "--port", str(self._port)],
            env={**os.environ, "STOKER_HOME": str(home)},
        )
        await_ready(self._port)

    def _call(self, path: str, body: dict[str, Any] | None = None, agent: str = "") -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Content-Type": "application/json", **({"X-Agent-ID": agent} if agent else {})},
        )
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.load(reply)

    def ask(self, agent: str, *texts: str) -> dict[str, Any]:
        """A turn: texts of user and assistant alternate."""
        roles = ("user", "assistant")
        body = {
            "max_tokens": 12,
            "system": SYSTEM,
            "messages": [
                {"role": roles[number % 2], "content": text} for number, text in enumerate(texts)
            ],
        }
        reply: dict[str, Any] = self._call("/v1/messages", body, agent)
        return reply

    def agents(self) -> dict[str, dict[str, Any]]:
        state = self._call("/admin/state")
        return {row["agent_id"]: row for row in state["agents"]}

    def await_saved(self, *names: str) -> None:
        """Waits until the disk has everything of these agents."""
        self._await(lambda: all(self._is_saved(name) for name in names))

    def _is_saved(self, name: str) -> bool:
        row = self.agents()[name]
        return bool(row["warm_bytes"] and row["warm_bytes"] >= row["hot_bytes"])

    def _await(self, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    server = Server(home)
    try:
        yield server
    finally:
        server.process.terminate()
        assert server.process.wait(60) in (0, -signal.SIGKILL)


@pytest.fixture
def home(tmp_path: Path, bundled_models_dir: Path) -> Path:
    (tmp_path / "models").symlink_to(bundled_models_dir)
    return tmp_path


def test_conversations_go_on_after_a_kill(home: Path) -> None:
    question, follow_up = "What is the capital of France?", "And of Italy?"
    with serving(home) as server:
        first = server.ask("repo-a", question)
        text = first["content"][0]["text"]
        other = server.ask("repo-b", "Name three colours.")
        server.await_saved("repo-a", "repo-b")
        expected = server.ask("fresh", question, text, follow_up)
        server.kill()

    with serving(home) as server:
        rows = server.agents()
        assert rows["repo-a"]["status"] == rows["repo-b"]["status"] == "warm"
        assert rows["repo-a"]["hot_bytes"] == 0
        second = server.ask("repo-a", question, text, follow_up)
        again = server.ask("repo-b", "Name three colours.")
        num_prompt_tokens = sum(
            second["usage"][name]
            for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        )
        # Only what the follow-up added was computed.
        assert num_prompt_tokens - second["usage"]["cache_read_input_tokens"] < 30
        assert second["content"] == expected["content"]
        assert again["content"] == other["content"]
        assert again["usage"]["input_tokens"] == 1


def test_a_second_server_on_the_same_data_is_refused_in_one_line(home: Path) -> None:
    with serving(home):
        run = subprocess.run(
            [*STOKER, "serve", "--port", str(free_port())],
            env={**os.environ, "STOKER_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "STOKER_HOME" in run.stderr


@pytest.mark.slow
def test_generate_works_beside_a_server(home: Path) -> None:
    with serving(home):
        run = subprocess.run(
            [*STOKER, "generate", "--quiet", "What is the capital of France?"],
            env={**os.environ, "STOKER_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert run.returncode == 0
    assert "Paris" in run.stdout
