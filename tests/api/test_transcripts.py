"""Whole streams, byte by byte, against files: what a client sees must not change by accident.

Every text of a script comes in one word, so that the events do not depend on the reader's pace.
``pytest --snapshot-update`` writes the files anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.version import __version__
from engine.errors import EngineFailedError
from tests.api.conftest import Served
from tests.api.word_engine import Script

FOLDER = Path(__file__).parent / "transcripts"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTIONS = [{"name": name, "parameters": PARAMETERS} for name in ("get_weather", "get_time")]
SCRIPTS = {
    "text": Script(words=("Paris is the capital.",)),
    "calls": Script(
        words=(
            "Let me see.\n",
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
            '\n<tool_call>\n{"name": "get_time", "arguments": {"city": "Rome"}}\n</tool_call>',
        )
    ),
    "reasoning": Script(words=("<think>", "It is easy.", "</think>\n\n", "Paris.")),
    "cut": Script(words=("Paris is", " the capital.")),
    "failed": Script(words=("Paris", " is"), fail_at=1, error=EngineFailedError("NaN in logits")),
}
LIMITS = {"cut": 1}
_CHANGING = re.compile(r"\b(chatcmpl-|resp_|msg_|rs_|fc_|call_)([0-9a-f]{24,32})\b")
_TIMES = re.compile(r'"(created|created_at|completed_at)":\d+')


def body_of(route: str, name: str) -> dict[str, Any]:
    limit = LIMITS.get(name)
    if route == "chat":
        return {
            "model": "",
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": function} for function in FUNCTIONS],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": limit,
        }
    tools = [{"type": "function", **function} for function in FUNCTIONS]
    body = {"model": "", "input": "hi", "stream": True, "max_output_tokens": limit}
    return body | {"tools": tools}


def steady(text: str) -> str:
    """A stream with ids in the order in which they appear, and without times and version."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"{match[1]}{numbers.setdefault(match[2], len(numbers) + 1)}"

    text = _CHANGING.sub(number, text)
    return _TIMES.sub(r'"\1":0', text).replace(f"stoker_{__version__}", "stoker_VERSION")


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("route", "path"), [("chat", "/v1/chat/completions"), ("responses", "/v1/responses")]
)
def test_a_stream_is_what_it_was(
    served: Served, pytestconfig: pytest.Config, route: str, path: str, name: str
) -> None:
    served.engine.script = SCRIPTS[name]
    reply = served.http.post(path, json=body_of(route, name))
    assert reply.status_code == 200
    transcript = FOLDER / f"{route}-{name}.sse"
    if pytestconfig.getoption("update_snapshots"):
        transcript.write_text(steady(reply.text), "utf-8")
    assert steady(reply.text) == transcript.read_text("utf-8")
