"""Calls of families that mlx-lm has no parser for: several, none, and what only looks like one."""

from __future__ import annotations

import pytest

from engine.messages import ToolChoice, ToolSpec
from engine.models.call_syntax import FamilyCalls, NotACallError
from engine.models.family_parsers import FAMILIES
from engine.models.offered_calls import offered_calls
from engine.models.reply_reader import MarkedReader
from engine.pieces import CallArguments, CallStart, TextPiece

DEEPSEEK, LLAMA = FAMILIES
OSLO, ROME = '{"city": "Oslo"}', '{"city": "Rome \\"}"}'
FENCED = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>%s\n```json\n%s\n```<｜tool▁call▁end｜>"
PLAIN = "<｜tool▁call▁begin｜>%s<｜tool▁sep｜>%s<｜tool▁call▁end｜>"
CALL = '{"name": "%s", "parameters": %s}'
TOOLS = [ToolSpec(name=name, description="", parameters_json="{}") for name in ("look", "hear")]


def whole(family: FamilyCalls, body: str) -> str:
    return family.open_mark + body + family.close_mark


def llama(*calls: tuple[str, str], between: str = "") -> str:
    return between.join(CALL % call for call in calls).removeprefix(LLAMA.open_mark)


BODIES = {
    "fenced": (DEEPSEEK, "\n".join([FENCED % ("look", OSLO), FENCED % ("hear", ROME)])),
    "plain": (DEEPSEEK, PLAIN % ("look", OSLO) + PLAIN % ("hear", ROME)),
    "bare": (LLAMA, llama(("look", OSLO), ("hear", ROME), between="; ")),
    "lines": (LLAMA, llama(("look", OSLO), ("hear", ROME), between="\n") + "\n"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_several_calls_are_read_however_the_text_is_cut(name: str, step: int) -> None:
    family, body = BODIES[name]
    reader = MarkedReader(None, offered_calls(family, TOOLS, ToolChoice()))
    text = f"Let me see.\n{whole(family, body)}"
    pieces = [
        piece for at in range(0, len(text), step) for piece in reader.feed(text[at : at + step])
    ] + reader.finish()
    said = "".join([piece.text for piece in pieces if isinstance(piece, TextPiece)])
    assert said == "Let me see."
    assert [piece.name for piece in pieces if isinstance(piece, CallStart)] == ["look", "hear"]
    arguments = [piece.json_text for piece in pieces if isinstance(piece, CallArguments)]
    assert arguments == [OSLO, ROME]


@pytest.mark.parametrize(
    ("family", "body"),
    [
        (LLAMA, ""),
        (LLAMA, '"look"}'),
        (LLAMA, '"look", "arguments": {}}'),
        (LLAMA, '"look", "parameters": {}, "why": 1}'),
        (LLAMA, '"look", "parameters": []}'),
        (LLAMA, '"look", "parameters": {}} and so on'),
        (LLAMA, '"look", "parameters": {"a": NaN}}'),
        (LLAMA, '"look", "parameters": {"a": '),
        (DEEPSEEK, ""),
        (DEEPSEEK, "hm"),
        (DEEPSEEK, PLAIN % ("look", "[1]")),
        (DEEPSEEK, PLAIN % ("look", OSLO) + "hm"),
        (DEEPSEEK, PLAIN % ("look", '{"a": ')),
        (DEEPSEEK, PLAIN.replace("<｜tool▁sep｜>", "") % ("look", OSLO)),
    ],
)
def test_what_is_no_whole_call_is_text_to_the_letter(family: FamilyCalls, body: str) -> None:
    with pytest.raises(NotACallError):
        family.parse(body, TOOLS)
    reader = MarkedReader(None, offered_calls(family, TOOLS, ToolChoice()))
    text = f"So: {whole(family, body)}"
    pieces = reader.feed(text) + reader.finish()
    assert all(isinstance(piece, TextPiece) for piece in pieces)
    assert "".join([piece.text for piece in pieces if isinstance(piece, TextPiece)]) == text
