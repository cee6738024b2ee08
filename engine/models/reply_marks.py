"""What a model writes around the parts of a reply that are not text, found by trying."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from engine.models.call_format import CallFormat
from engine.models.call_syntax import CallSyntax, FamilyCalls, JsonCalls, NotACallError
from engine.models.family_parsers import FAMILIES
from engine.models.reasoning_format import ReasoningFormat
from engine.models.template import PROBE_ARGUMENTS, PROBE_NAME, ChatTemplate

_PARSERS = "mlx_lm.tool_parsers"


@dataclass(frozen=True, slots=True)
class ReplyMarks:
    """What a model writes around the parts of a reply that are not text.

    Attributes:
        reasoning: Around reasoning; None for models that do not think aloud.
        calls: How it writes calls; None where that is not known.
        special: The special strings that belong to them; a reply shows these.
    """

    reasoning: ReasoningFormat | None = None
    calls: CallSyntax | None = None
    special: frozenset[str] = frozenset()

    def opens_reasoning(self, text: str) -> bool:
        """Whether a text ends where reasoning begins."""
        return self.reasoning is not None and text.rstrip().endswith(self.reasoning.open_mark)

    def before_reasoning(self, text: str) -> str:
        """A text without the mark at its end that opens reasoning, if there is one."""
        if self.reasoning is None or not self.opens_reasoning(text):
            return text
        return text.rstrip().removesuffix(self.reasoning.open_mark)

    def occur_in(self, text: str) -> bool:
        """Whether a text has the beginning of something that is not text."""
        openings = [part.open_mark for part in (self.reasoning, self.calls) if part is not None]
        return any(mark in text for mark in openings)


def marks_of(
    template: ChatTemplate,
    call_format: CallFormat | None,
    reasoning: ReasoningFormat | None,
    special_strings: Collection[str],
    ends: Collection[str],
) -> ReplyMarks:
    """The marks of one model.

    Args:
        template: Its chat template.
        call_format: How it writes calls, where that is JSON between marks.
        reasoning: How it marks reasoning, if it does.
        special_strings: The tokenizer's.
        ends: Those that end a reply.
    """
    calls = JsonCalls(call_format) if call_format else _family_of(template.spell_call(), ends)
    written = template.spell_call()
    for part in (reasoning, calls):
        written += part.open_mark + part.close_mark if part else ""
    usual = template.spell_reply()
    special = (text for text in special_strings if text in written and text not in usual)
    return ReplyMarks(reasoning, calls, frozenset(special) - set(ends))


def _family_of(written: str, ends: Collection[str]) -> FamilyCalls | None:
    """The family whose parser understands a call that the template has written."""
    return next((family for family in _families() if _reads(family, written, ends)), None)


def _families() -> Iterator[FamilyCalls]:
    """The parsers that mlx-lm brings, whose import takes seconds, and then those it lacks."""
    package = importlib.import_module(_PARSERS)
    for found in pkgutil.iter_modules(package.__path__):
        parser = importlib.import_module(f"{_PARSERS}.{found.name}")
        yield FamilyCalls(parser.tool_call_start, parser.tool_call_end, parser.parse_tool_call)
    yield from FAMILIES


def _reads(family: FamilyCalls, written: str, ends: Collection[str]) -> bool:
    _, is_there, body = written.partition(family.open_mark)
    if not is_there:
        return False
    for end in (family.close_mark,) if family.close_mark else ends:
        body = body.partition(end)[0]
    try:
        [call] = family.parse(body, ())
    except (NotACallError, ValueError):
        return False
    return (call.name, call.arguments_json) == (PROBE_NAME, PROBE_ARGUMENTS)
