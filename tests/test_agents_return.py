"""Three Claude Code conversations, a kill, and the dashboard that has them all again."""

from __future__ import annotations

import copy
import json
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from benchmarks.servers import await_ready, free_port
from benchmarks.terminal import Terminal

RECORDED = Path(__file__).parent / "api" / "clients"
TOPICS = {"rivers": "1a", "stones": "2b", "lamps": "3c"}
MAX_REPLY_TOKENS = 24


class Dashboard:
    """``stoker`` on a terminal, and a client's view of its API."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "app.cli", "--port", str(self.port)]
        self.terminal = Terminal(command, {"STOKER_HOME": str(home)})
        self.url = f"http://127.0.0.1:{self.port}"
        await_ready(self.port)

    def rows(self) -> dict[str, dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/admin/state", timeout=30) as reply:
            return {row["agent_id"]: row for row in json.load(reply)["agents"]}

    def await_rows(self, holds: Callable[[dict[str, dict[str, Any]]], bool]) -> None:
        deadline_s = time.monotonic() + 60
        while not holds(self.rows()):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def turn(self, conversation: Conversation) -> float:
        """Sends a conversation's next turn, streaming; returns the seconds to its first event."""
        client = anthropic.Anthropic(base_url=self.url, api_key="local", max_retries=0)
        began_s = time.monotonic()
        with client.messages.stream(
            **conversation.next_request(), extra_headers=conversation.headers
        ) as stream:
            first_s = 0.0
            for event in stream:
                if event.type == "content_block_delta" and not first_s:
                    first_s = time.monotonic() - began_s
            text = stream.get_final_text()
        conversation.replies.append(text)
        return first_s


class Conversation:
    """The recorded conversation about another topic, with the replies that were generated here."""

    def __init__(self, topic: str, number: str) -> None:
        self.topic = topic
        self.agent_id = f"0000{number}00-0000-4000-8000-000000000000"
        self.headers = {"X-Claude-Code-Session-Id": self.agent_id}
        self.replies: list[str] = []

    def next_request(self) -> dict[str, Any]:
        """The recorded request of that turn, as Claude Code serialises it."""
        name = f"cc-continue-0{len(self.replies) + 1}.json"
        recorded = json.loads((RECORDED / name).read_text("utf-8"))
        body = copy.deepcopy(recorded["body"])
        replies = iter(self.replies)
        for message in body["messages"]:
            if message["role"] == "assistant":
                message["content"] = [{"type": "text", "text": next(replies)}]
        last = body["messages"][-1]["content"][0]
        last["text"] += f" (about {self.topic})"
        for message in body["messages"][:-1]:
            if message["role"] == "user":
                message["content"] += f" (about {self.topic})"
        names = ("model", "system", "tools", "messages")
        return {name: body[name] for name in names} | {"max_tokens": MAX_REPLY_TOKENS}


@pytest.fixture
def home(tmp_path: Path, bundled_models_dir: Path) -> Path:
    (tmp_path / "models").symlink_to(bundled_models_dir)
    return tmp_path


def is_saved(row: dict[str, Any]) -> bool:
    return bool(row["status"] == "idle" and 0 < row["hot_bytes"] <= row["warm_bytes"])


def test_three_agents_go_on_after_a_kill_where_they_were(home: Path) -> None:
    conversations = [Conversation(*each) for each in TOPICS.items()]
    names = [each.agent_id for each in conversations]
    before = Dashboard(home)
    cold_s = before.turn(conversations[0])
    for conversation in conversations[1:]:
        before.turn(conversation)
    for conversation in conversations:
        before.turn(conversation)
    before.await_rows(lambda rows: all(is_saved(rows[name]) for name in names))
    # The last acknowledgement of the disk comes a moment after the last byte is there.
    time.sleep(0.5)
    before.terminal.kill()

    after = Dashboard(home)
    rows = after.rows()
    assert [rows[name]["status"] for name in names] == ["warm"] * 3
    for conversation in conversations:
        after.terminal.wait_for(conversation.agent_id[:8], 10)
    after.terminal.wait_for("warm", 10)
    for conversation in conversations:
        num_known = rows[conversation.agent_id]["num_context_tokens"]
        seconds = after.turn(conversation)
        row = after.rows()[conversation.agent_id]
        miss = row["miss"]
        # All that was known before the kill is there again, but for a few tokens at its end.
        assert miss["num_hot_tokens"] + miss["num_warm_tokens"] >= num_known - 32
        assert miss["num_lost_tokens"] < 32
        assert miss["num_new_tokens"] < 64
        assert seconds < cold_s / 3
    # The first to come back reads from disk what the others then find in memory.
    assert after.rows()[names[0]]["miss"]["num_warm_tokens"] > 700
    assert after.terminal.close("q") == 0
