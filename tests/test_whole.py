"""The whole program on a terminal, with the real model and four real clients at once."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from benchmarks.servers import await_ready, free_port
from benchmarks.terminal import Terminal

SYSTEM = "You are a careful assistant. " + "Follow the rules of the house and explain. " * 40
NUM_TOKENS = 24


class Running:
    """A Stoker with its dashboard on a terminal of its own."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "app.cli", "--port", str(self.port)]
        self.terminal = Terminal(command, {"STOKER_HOME": str(home)})
        self.url = f"http://127.0.0.1:{self.port}"

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/admin/state", timeout=30) as reply:
            state: dict[str, Any] = json.load(reply)
            return state

    def agent(self, agent_id: str) -> dict[str, Any]:
        rows = [row for row in self.state()["agents"] if row["agent_id"] == agent_id]
        assert len(rows) == 1, f"{agent_id} is not there once"
        row: dict[str, Any] = rows[0]
        return row

    def await_state(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        deadline_s = time.monotonic() + 30
        while not holds(self.state()):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def anthropic_turn(self, agent_id: str, question: str) -> anthropic.types.Message:
        client = anthropic.Anthropic(base_url=self.url, api_key="local", max_retries=0)
        with client.messages.stream(
            model="claude-sonnet-4",
            max_tokens=NUM_TOKENS,
            system=SYSTEM,
            messages=[{"role": "user", "content": question}],
            extra_headers={"X-Agent-ID": agent_id},
        ) as stream:
            return stream.get_final_message()

    def openai_turn(self) -> str:
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="local", max_retries=0)
        chunks = client.chat.completions.create(
            model="gpt-4o",
            max_tokens=NUM_TOKENS,
            user="openai-bot",
            stream=True,
            messages=[
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": "Name a mountain."},
            ],
        )
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    def raw_turn(self) -> str:
        body = {
            "max_tokens": NUM_TOKENS,
            "stream": True,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        }
        return httpx.post(f"{self.url}/v1/messages", json=body, timeout=120).text


@pytest.fixture(scope="module")
def running(
    bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(bundled_models_dir)
    running = Running(home)
    await_ready(running.port)
    yield running
    assert running.terminal.close("q") == 0
    # The alternate screen was left and the cursor is visible again.
    assert b"\x1b[?1049l" in running.terminal.output
    assert b"\x1b[?25h" in running.terminal.output


@pytest.fixture(scope="module")
def answers(running: Running) -> dict[str, Any]:
    """What four clients got that talked at the same time."""
    answers: dict[str, Any] = {}

    def run(name: str, turn: Callable[[], Any]) -> None:
        answers[name] = turn()

    clients: dict[str, Callable[[], Any]] = {
        "repo-a": lambda: running.anthropic_turn("repo-a", "What is recursion?"),
        "repo-b": lambda: running.anthropic_turn("repo-b", "What is a stack?"),
        "openai": running.openai_turn,
        "raw": running.raw_turn,
    }
    threads = [threading.Thread(target=run, args=client) for client in clients.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert set(answers) == set(clients)
    return answers


def test_four_clients_are_answered_at_once(answers: dict[str, Any]) -> None:
    assert answers["repo-a"].content[0].text
    assert answers["repo-a"].stop_reason in {"max_tokens", "end_turn"}
    assert answers["repo-b"].content[0].text
    assert answers["openai"]
    assert "Paris" in "".join(
        json.loads(line[6:])["delta"].get("text", "")
        for line in answers["raw"].splitlines()
        if line.startswith("data: ") and "content_block_delta" in line
    )


def test_the_lanes_name_the_agents_and_blocks_are_shared(
    running: Running, answers: dict[str, Any]
) -> None:
    running.await_state(lambda state: state["batch"]["num_running"] == 0)
    state = running.state()
    names = {row["agent_id"] for row in state["agents"]}
    assert {"repo-a", "repo-b", "openai-bot"} <= names
    assert len(names) == 4
    assert state["pool"]["num_shared_blocks"] > 0
    assert running.agent("repo-a")["shared_bytes"] > 0
    running.terminal.wait_for("repo-a", 10)
    running.terminal.wait_for("openai-bot", 10)


def test_a_model_name_that_is_not_here_is_shown(running: Running, answers: dict[str, Any]) -> None:
    assert answers["repo-a"].model == "SmolLM2-135M-Instruct"
    kinds = [(event["kind"], event["text"]) for event in running.state()["events"]]
    assert any(kind == "alias" and "claude-sonnet-4" in text for kind, text in kinds)


def test_a_key_evicts_one_agent_and_its_next_turn_is_as_before(
    running: Running, answers: dict[str, Any]
) -> None:
    before = running.anthropic_turn("victim", "Name three colours.")
    running.await_state(lambda state: state["batch"]["num_running"] == 0)
    # The table is sorted by activity, so the victim is at the top.
    time.sleep(1.5)
    running.terminal.press("g", "victim")
    running.terminal.press("e", "Evict the cache of victim?")
    running.terminal.press("y", "evicted")
    running.await_state(lambda _: running.agent("victim")["hot_bytes"] == 0)
    assert running.agent("victim")["status"] in {"warm", "cold"}
    assert running.agent("repo-a")["hot_bytes"] > 0

    again = running.anthropic_turn("victim", "Name three colours.")
    assert again.content == before.content
    # What other agents hold of the common beginning is still reused, and what the disk has.
    assert (again.usage.cache_read_input_tokens or 0) >= 256


def test_a_dropped_connection_ends_its_turn(running: Running) -> None:
    body = {
        "max_tokens": 2000,
        "stream": True,
        "messages": [{"role": "user", "content": "Write a very long story."}],
    }
    headers = {"X-Agent-ID": "dropper"}
    url = f"{running.url}/v1/messages"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as reply:
        next(line for line in reply.iter_lines() if "content_block_delta" in line)
        assert running.agent("dropper")["status"] == "decoding"
    running.await_state(lambda state: state["batch"]["num_running"] == 0)
    events = [event["text"] for event in running.state()["events"] if event["kind"] == "abort"]
    assert any(text.startswith("dropper") for text in events)
