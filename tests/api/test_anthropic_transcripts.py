"""Streams of the Anthropic API, event by event, against files.

What differs from run to run is made equal: ids are numbered, neighbouring deltas of a block are
joined, and of the pings only the first is kept. ``pytest --snapshot-update`` writes the files anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineFailedError
from tests.api.conftest import Served
from tests.api.test_anthropic_replies import CALLS, ENABLED, HELLO, THOUGHT, TOOLS
from tests.api.word_engine import MODEL_ID, Script

FOLDER = Path(__file__).parent / "transcripts"
_ID = re.compile(r"(msg|toolu|req)_[0-9a-f]{8,}")
_TEXTS = ("text", "thinking", "partial_json", "signature")

STREAMS: dict[str, tuple[Script, dict[str, Any]]] = {
    "text": (Script(), {}),
    "text-and-two-calls": (Script(words=CALLS), {"tools": TOOLS}),
    "thinking": (Script(words=THOUGHT), {"thinking": ENABLED}),
    "thinking-omitted": (
        Script(words=THOUGHT),
        {"thinking": {"type": "adaptive", "display": "omitted"}},
    ),
    "thinking-and-a-call": (
        Script(words=("<think>Hm.</think>", *CALLS[1:5])),
        {"thinking": ENABLED, "tools": TOOLS},
    ),
    "max-tokens-in-a-call": (Script(words=CALLS), {"tools": TOOLS, "max_tokens": 3}),
    "stop-sequence": (Script(), {"stop_sequences": ["the"]}),
    "no-tokens": (Script(), {"max_tokens": 0}),
    "error": (Script(fail_at=2, error=EngineFailedError("the engine is on fire")), {}),
    "error-in-a-call": (
        Script(words=CALLS, fail_at=3, error=EngineFailedError("the engine is on fire")),
        {"tools": TOOLS},
    ),
}


def transcript(stream: str) -> str:
    """A stream without what differs from run to run."""
    lines: list[str] = []
    last: dict[str, Any] = {}
    for event in stream.strip().split("\n\n"):
        name, data = event.split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        if body["type"] == "ping" and name in lines:
            continue
        if _is_continued(last, body):
            (field,) = (field for field in _TEXTS if field in body["delta"])
            body["delta"][field] = last["delta"][field] + body["delta"][field]
            del lines[-3:]
        last = body
        lines += [name, f"data: {json.dumps(body, separators=(',', ':'))}", ""]
    ids: dict[str, str] = {}

    def numbered(match: re.Match[str]) -> str:
        return ids.setdefault(match.group(), f"{match.group(1)}_{len(ids) + 1}")

    return _ID.sub(numbered, "\n".join(lines))


def _is_continued(last: dict[str, Any], body: dict[str, Any]) -> bool:
    if body["type"] != "content_block_delta" or last.get("type") != "content_block_delta":
        return False
    same: bool = last["delta"]["type"] == body["delta"]["type"] and last["index"] == body["index"]
    return same


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_what_it_was(served: Served, pytestconfig: pytest.Config, name: str) -> None:
    script, fields = STREAMS[name]
    served.engine.script = script
    body = {"model": MODEL_ID, "max_tokens": 100, "messages": HELLO, "stream": True, **fields}
    reply = served.http.post("/v1/messages", json=body)
    path = FOLDER / f"anthropic-{name}.sse"
    if pytestconfig.getoption("update_snapshots"):
        path.write_text(transcript(reply.text), "utf-8")
    assert transcript(reply.text) == path.read_text("utf-8")


def test_every_committed_stream_is_tested() -> None:
    names = {path.stem for path in FOLDER.glob("anthropic-*.sse")}
    assert names == {f"anthropic-{name}" for name in STREAMS}
