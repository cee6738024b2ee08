"""A recorded Claude Code conversation on the real model: every turn finds what the last one left.

The replies are sampled so that the model spells them in ways of its own, and come back in the
forms in which clients send them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.models.chat import ModelChat
from tests.real_server import RealServer, real_server

CLIENTS = Path(__file__).parent / "api" / "clients"
RECORDED = json.loads((CLIENTS / "cc-continue-01.json").read_text("utf-8"))["body"]
SIDE_REQUEST = json.loads((CLIENTS / "cc2014-bash-02.json").read_text("utf-8"))["body"]
USER_AGENT = "claude-cli/2.1.329 (external, sdk-cli)"
NUM_REPLY_TOKENS = 24
MARK = {"cache_control": {"type": "ephemeral"}}
Serialise = Callable[[str], Any]


def as_string(text: str) -> Any:
    return text


def as_marked_block(text: str) -> Any:
    return [{"type": "text", "text": text, **MARK}]


def as_two_blocks(text: str) -> Any:
    middle = len(text) // 2
    return [{"type": "text", "text": part} for part in (text[:middle], text[middle:])]


def as_stripped_with_thinking(text: str) -> Any:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    return [thinking, *as_marked_block(text.strip())]


class Conversation:
    """A session of Claude Code."""

    def __init__(self, server: RealServer, number: int) -> None:
        self.server = server
        self.session = f"00000000-0000-4000-8000-{number:012}"
        self._said: list[tuple[str, str]] = []
        self._num_prompt_tokens = 0
        self._num_known_tokens = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Claude-Code-Session-Id": self.session, "user-agent": USER_AGENT}

    def ask(self, question: str, serialise: Serialise = as_string, seed: int = 1) -> str:
        """A turn; what the last one computed has to be found but for a token.

        Args:
            question: What is asked.
            serialise: How the replies so far come back.
            seed: Chooses the reply.
        """
        messages: list[Any] = []
        for asked, replied in self._said:
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": serialise(replied)})
        marked = [{"type": "text", "text": question, **MARK}]
        reply = self.server.http.post(
            "/v1/messages",
            json={
                **{name: RECORDED[name] for name in ("model", "system", "tools", "metadata")},
                "messages": [*messages, {"role": "user", "content": marked}],
                "max_tokens": NUM_REPLY_TOKENS,
                "temperature": 1.6,
                "top_k": 100,
                "seed": seed,
            },
            headers=self.headers,
        )
        answer = reply.raise_for_status().json()
        self._check(answer["usage"])
        text: str = answer["content"][0]["text"]
        self._said.append((question, text))
        return text

    def _check(self, usage: dict[str, int]) -> None:
        num_read = usage["cache_read_input_tokens"]
        num_computed = usage["input_tokens"] + usage["cache_creation_input_tokens"]
        # The token that was chosen last has not been computed.
        assert self._num_known_tokens - num_read <= 1
        self._num_prompt_tokens = num_read + num_computed
        self._num_known_tokens = self._num_prompt_tokens + usage["output_tokens"]

    def begin_oddly(self, chat: ModelChat) -> None:
        """Asks a first question until the model spells its reply as the tokenizer would not."""
        for seed in range(1, 40):
            text = self.ask("Tell me of the sea.", seed=seed)
            num_generated = self._num_known_tokens - self._num_prompt_tokens
            if num_generated == NUM_REPLY_TOKENS != len(chat.encode_text(text)):
                return
            self._said.clear()
            self._num_known_tokens = 0
        pytest.fail("no reply was spelled oddly")

    def await_saved(self) -> None:
        """Waits until the disk has everything of it."""

        def is_saved(state: dict[str, Any]) -> bool:
            [row] = [row for row in state["agents"] if row["agent_id"] == self.session]
            return bool(row["status"] == "idle" and 0 < row["hot_bytes"] <= row["warm_bytes"])

        self.server.await_state(is_saved)
        # The last acknowledgement of the disk comes a moment after the last byte is there.
        time.sleep(0.5)


@pytest.fixture(scope="module")
def chat(bundled_model_dir: Path) -> ModelChat:
    return ModelChat(bundled_model_dir)


@pytest.fixture(scope="module")
def server(
    bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServer]:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(bundled_models_dir)
    with real_server(home) as server:
        yield server


def test_every_turn_finds_the_last_one_however_the_replies_come_back(
    server: RealServer, chat: ModelChat
) -> None:
    talk = Conversation(server, 1)
    talk.begin_oddly(chat)
    talk.ask("And of \N{FIRE} and 火?", as_string)
    talk.ask("Go on, please.", as_marked_block)
    talk.ask("What else?", as_two_blocks)
    talk.ask("Thank you.", as_stripped_with_thinking)


WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"enum": ["Oslo", "Rome", "Lima"]},
            "days": {"type": "array", "items": {"enum": [1, 2, 3]}, "maxItems": 3},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "additionalProperties": False}}


def call_and_answer(
    server: RealServer, agent: str, messages: list[Any], seed: int, **fields: Any
) -> tuple[list[Any], dict[str, int]]:
    """A turn that has to call, and the messages with its result; tokens are counted."""
    reply = server.http.post(
        "/v1/messages",
        json={
            "system": RECORDED["system"],
            "tools": [WEATHER, CLOCK],
            "messages": messages,
            "max_tokens": 200,
            "temperature": 1.6,
            "seed": seed,
            **fields,
        },
        headers={"x-agent-id": agent},
    )
    answer = reply.raise_for_status().json()
    assert answer["stop_reason"] == "tool_use"
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "Snow."}
        for block in answer["content"]
        if block["type"] == "tool_use"
    ]
    assert results
    # A client writes arguments anew, and gives results in an order of its own.
    written = json.loads(json.dumps(answer["content"], sort_keys=True))
    said = {"role": "assistant", "content": written}
    return [*messages, said, {"role": "user", "content": results[::-1]}], answer["usage"]


def test_calls_that_come_back_stand_for_their_tokens(server: RealServer) -> None:
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Oslo and Rome?"}]
    num_known = 0
    for seed, choice in enumerate(({"type": "any"}, {"type": "tool", "name": "weather"}) * 2):
        messages, usage = call_and_answer(server, "caller", messages, seed, tool_choice=choice)
        num_read = usage["cache_read_input_tokens"]
        # The token that was chosen last has not been computed.
        assert num_known - num_read <= 1
        num_computed = usage["input_tokens"] + usage["cache_creation_input_tokens"]
        num_known = num_read + num_computed + usage["output_tokens"]
    calls = [block for message in messages[1::2] for block in message["content"]]
    for call in calls:
        assert call["type"] == "tool_use"
        if call["name"] == "weather":
            assert call["input"]["city"] in ("Oslo", "Rome", "Lima")


def test_a_prompt_that_was_warmed_is_found(server: RealServer) -> None:
    body: dict[str, Any] = {
        "system": RECORDED["system"],
        "messages": [{"role": "user", "content": "Which rivers run into the Black Sea?"}],
    }
    usages = []
    for max_tokens in (0, 4):
        reply = server.http.post(
            "/v1/messages",
            json=body | {"max_tokens": max_tokens},
            headers={"x-agent-id": "warmed"},
        )
        usages.append(reply.raise_for_status().json()["usage"])
    warm, turn = usages
    assert warm["output_tokens"] == 0
    assert turn["output_tokens"] > 0
    assert turn["input_tokens"] + turn["cache_creation_input_tokens"] == 1


def test_a_title_on_the_side_leaves_the_conversation_alone(server: RealServer) -> None:
    talk = Conversation(server, 2)
    talk.ask("Tell me of the sea.")
    side = SIDE_REQUEST | {"stream": False, "max_tokens": 5}
    server.http.post("/v1/messages", json=side, headers=talk.headers).raise_for_status()
    talk.ask("Go on.")

    def num_turns(state: dict[str, Any]) -> dict[str, int]:
        rows = {row["agent_id"]: row["num_turns"] for row in state["agents"]}
        return {name: rows[name] for name in rows if name.startswith(talk.session)}

    server.await_state(lambda s: num_turns(s) == {talk.session: 2, f"{talk.session}/side": 1})


def test_replies_are_known_after_a_kill(
    bundled_models_dir: Path, tmp_path: Path, chat: ModelChat
) -> None:
    (tmp_path / "models").symlink_to(bundled_models_dir)
    with real_server(tmp_path) as server:
        talk = Conversation(server, 3)
        talk.begin_oddly(chat)
        talk.ask("And of \N{FIRE} and 火?", as_two_blocks)
        talk.await_saved()
        server.kill()
    with real_server(tmp_path) as talk.server:
        talk.ask("Go on, please.", as_string)
        talk.ask("Thank you.", as_marked_block)
