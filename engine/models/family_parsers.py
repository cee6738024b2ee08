"""Families whose calls mlx-lm has no parser for.

Each parser takes the text between the marks and raises ValueError where it finds no call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from engine.models.call_syntax import FamilyCalls

Parser = Callable[[str, Sequence[dict[str, Any]]], list[dict[str, Any]]]

_LLAMA_MARK = '{"name": '
_LLAMA_GAP = re.compile(r"[\s;]*")
_DEEPSEEK_CALL = re.compile(
    r"\s*<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>(?P<old>[^\n]+)\n```json\n(?P<fenced>.*?)\n```"
    r"|(?P<new>[^<\n]+)<｜tool▁sep｜>(?P<plain>.*?))\s*<｜tool▁call▁end｜>\s*",
    re.DOTALL,
)


def parse_llama(body: str, _tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Llama 3.1 to 3.3: a bare object up to the end of the reply, or several.

    Its template (https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1) writes
    ``{"name": ..., "parameters": ...}``; the mark is the beginning of that object.
    """
    text = _LLAMA_MARK + body
    decoder = json.JSONDecoder()
    calls: list[dict[str, Any]] = []
    place = 0
    while place < len(text):
        call, place = decoder.raw_decode(text, place)
        if not isinstance(call, dict) or call.keys() != {"name", "parameters"}:
            raise ValueError("a call has a name and parameters")
        calls.append({"name": call["name"], "arguments": call["parameters"]})
        gap = _LLAMA_GAP.match(text, place)
        place = gap.end() if gap else place
    return calls


def parse_deepseek(body: str, _tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """DeepSeek V3 and R1, which fence the arguments, and V3.1, which does not."""
    calls: list[dict[str, Any]] = []
    place = 0
    while place < len(body):
        found = _DEEPSEEK_CALL.match(body, place)
        if found is None:
            raise ValueError("between the marks is something else than calls")
        name, arguments = found["old"] or found["new"], found["fenced"] or found["plain"]
        calls.append({"name": name, "arguments": json.loads(arguments)})
        place = found.end()
    return calls


FAMILIES = (
    FamilyCalls("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", parse_deepseek),
    FamilyCalls(_LLAMA_MARK, "", parse_llama),
)
