"""A real run on the real model, with something in its prompt that nobody can have known before.

No fixture, no scripted engine and no kept reply can pass: the reply has to be what the weights say
to this prompt, and every counter has to move by what the reply says of itself.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load
from prometheus_client.parser import text_string_to_metric_families

from engine.messages import Message, Role
from engine.models.chat import ModelChat
from tests.real_server import RealServer, real_server

ROOT = Path(__file__).parent.parent
MAX_TOKENS = 24
COUNTERS = {
    "prompt": "stoker_prompt_tokens_total",
    "cached": "stoker_prompt_cached_tokens_total",
    "generated": "stoker_generated_tokens_total",
    "turns": "stoker_turns_total",
    "ttfts": "stoker_time_to_first_token_seconds_count",
}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, bundled_models_dir: Path
) -> Iterator[RealServer]:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(bundled_models_dir)
    with real_server(home) as running:
        yield running


def counters(server: RealServer) -> dict[str, float]:
    text = server.http.get("/metrics").text
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return {short: values[name] for short, name in COUNTERS.items()}


def moves(server: RealServer, before: dict[str, float], num_turns: int) -> dict[str, float]:
    """By how much the counters have moved, once the turns are counted."""
    server.await_state(lambda state: state["throughput"]["num_turns"] >= num_turns)
    return {name: value - before[name] for name, value in counters(server).items()}


def usage_of(body: dict[str, Any]) -> dict[str, int]:
    usage = body["usage"]
    cached = usage["cache_read_input_tokens"]
    prompt = usage["input_tokens"] + usage["cache_creation_input_tokens"] + cached
    return {"prompt": prompt, "cached": cached, "generated": usage["output_tokens"]}


def shares_of_best_tokens(folder: Path, prompt: list[int], *replies: list[int]) -> list[float]:
    """How many tokens of each reply are those that the weights, run by mlx-lm, find likeliest."""
    model = load(str(folder))[0]
    logits = model(mx.array([prompt + reply for reply in replies]))
    best = mx.argmax(logits[:, len(prompt) - 1 : -1], axis=-1)
    is_best = np.array(best) == np.array(replies)
    return [float(share) for share in is_best.mean(axis=-1)]


def test_a_haiku_about_this_minute(server: RealServer, bundled_model_dir: Path) -> None:
    nonce = secrets.token_hex(8)
    minute = datetime.datetime.now(datetime.UTC).strftime("%H:%M on %d %B %Y")
    text = f"It is {minute}. Write a haiku about the ship {nonce} and the fire in its belly."
    before = counters(server)

    reply = server.ask("poet", text, max_tokens=MAX_TOKENS)

    assert reply.status_code == 200
    said, usage = reply.json()["content"][0]["text"], usage_of(reply.json())
    moved = moves(server, before, int(before["turns"]) + 1)
    assert moved == {**usage, "turns": 1, "ttfts": 1}
    chat = ModelChat(bundled_model_dir)
    prompt = list(chat.render_chat([Message(role=Role.USER, text=text)]).token_ids)
    assert usage["prompt"] == len(prompt)
    assert nonce in chat.spell(prompt)
    assert 0 < usage["generated"] <= MAX_TOKENS

    own_tokens = list(chat.encode_text(said))
    assert abs(len(own_tokens) - usage["generated"]) <= 1
    shares = shares_of_best_tokens(bundled_model_dir, prompt, own_tokens, own_tokens[::-1])
    # The second tells that the measure tells: the same words in another order are no reply.
    assert shares[0] > 0.8 > 0.5 > shares[1]

    again = server.ask("poet", text, max_tokens=MAX_TOKENS)
    assert again.json()["content"][0]["text"] == said
    both = moves(server, before, int(before["turns"]) + 2)
    second = usage_of(again.json())
    assert second["cached"] > 0
    assert both == {**{name: usage[name] + second[name] for name in usage}, "turns": 2, "ttfts": 2}

    places = [ROOT / name for name in ("app", "engine", "widgets", "styles", "tests", "docs")]
    assert [str(file) for file in files_with(nonce, *places)] == []


def files_with(nonce: str, *places: Path) -> Iterator[Path]:
    for place in places:
        for file in place.rglob("*"):
            if file.is_file() and nonce.encode() in file.read_bytes():
                yield file


def test_a_prompt_is_in_no_log(server: RealServer) -> None:
    nonce = secrets.token_hex(8)
    assert server.ask("quiet", f"Remember {nonce}.", max_tokens=1).status_code == 200
    assert nonce not in server.http.get("/admin/state").text
    logs = list(server.home.rglob("*.log"))
    assert any("quiet" in log.read_text("utf-8") for log in logs)
    assert [str(log) for log in files_with(nonce, server.home / "logs")] == []


def test_the_scan_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "reply.txt").write_text("kept: 0123456789abcdef")
    assert list(files_with("0123456789abcdef", tmp_path)) == [tmp_path / "reply.txt"]
