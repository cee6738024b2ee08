"""Where the parts of a rendered prompt begin, for any chat template.

A conversation is rendered a second time with a mark in the place of every text. What stands between
the marks is the template's own, and its special tokens are those of the real prompt, in the same
order: client text never has any. So the special token before a mark tells the place of a part.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from engine.models.special_text import SpecialStrings
from engine.models.template import Turn
from engine.models.turns import LABELS, without_labels
from engine.request import PromptPart

_MARK = re.compile("\ufdd0([0-9]+)\ufdd1")


def mark_turns(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with marks for their texts; a turn without text has one in its first tool call."""
    return [_marked(turn, f"\ufdd0{number}\ufdd1") for number, turn in enumerate(turns)]


def _marked(turn: Turn, mark: str) -> Turn:
    marked = without_labels([turn])[0]
    if turn["content"].strip() or not turn.get("tool_calls"):
        marked["content"] = mark
    else:
        first, *others = turn["tool_calls"]
        named = {**first, "function": {**first["function"], "name": mark}}
        marked["tool_calls"] = [named, *others]
    return marked


@dataclass(slots=True)
class _Place:
    """A part: what it holds, and where it begins.

    Attributes:
        labels: What it holds, in order.
        special: Number of the special token it begins at; -1 for the beginning of the prompt.
        is_after: Whether it begins behind that token.
    """

    labels: list[str]
    special: int = -1
    is_after: bool = False

    @property
    def label(self) -> str:
        """What it holds, in words."""
        first, last = self.labels[0], self.labels[-1]
        if len(self.labels) == 1:
            return first
        return f"{first} and {last}" if len(self.labels) == 2 else f"{first} to {last}"


class Outline:
    """The parts of one prompt, by its special tokens."""

    def __init__(
        self,
        skeleton: str,
        turns: Sequence[Turn],
        special_strings: SpecialStrings,
        ends: Collection[str],
        *,
        has_tools: bool,
    ) -> None:
        """Reads a skeleton.

        Args:
            skeleton: The rendered ``mark_turns`` of the conversation.
            turns: The conversation.
            special_strings: The tokenizer's.
            ends: Those that end a turn.
            has_tools: Whether the template writes tool definitions of its own.
        """
        self._special_strings = special_strings
        self._ends = ends
        self._texts: dict[str, tuple[list[str], int]] = {}
        self._specials: list[str] = []
        self._places: list[_Place] = []
        first, *rest = _MARK.split(skeleton)
        numbers = [int(number) for number in rest[::2]]
        if numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= len(turns)):
            return  # the template moves, repeats or makes up texts
        self._read_beginning(first, has_tools)
        unmarked = _labels_between(turns, numbers)
        self._extend(next(unmarked))
        for number, text in zip(numbers, rest[1::2], strict=True):
            self._extend(turns[number][LABELS])
            self._extend(next(unmarked))
            self._begin(text)
        self._extend(["reply"])

    def _read_beginning(self, text: str, has_tools: bool) -> None:
        """What the template writes before the first text: a section of its own, or none."""
        own = ["tools"] if has_tools else []
        self._places.append(_Place(own))
        if self._begin(text, needs_end=True) and not own:
            self._places[-2].labels.append("system")

    def _begin(self, text: str, *, needs_end: bool = False) -> bool:
        """Begins a part inside what stands between two texts; False where nothing separates them.

        A part begins behind the token that ended the one before it. Where there is none, the first
        special token may already tell what follows, so the part begins before it.
        """
        specials, last_end = self._read(text)
        num_before = len(self._specials)
        self._specials += specials
        if last_end >= 0:
            self._places.append(_Place([], num_before + last_end, is_after=True))
        elif specials and not needs_end:
            self._places.append(_Place([], num_before))
        else:
            return False
        return True

    def _read(self, text: str) -> tuple[list[str], int]:
        """The special strings of a text, and which of them is the last end of a turn, or -1."""
        if text not in self._texts:  # a template has only a few of its own
            specials = self._special_strings.find_all(text)
            ends = [number for number, special in enumerate(specials) if special in self._ends]
            self._texts[text] = specials, ends[-1] if ends else -1
        return self._texts[text]

    def _extend(self, labels: Sequence[str]) -> None:
        """Names what the last part holds."""
        held = self._places[-1].labels
        for label in labels:
            if label not in held[-1:]:
                held.append(label)

    def parts_of(
        self, rendered: str, token_ids: Sequence[int], special_ids: Mapping[str, int]
    ) -> tuple[PromptPart, ...]:
        """The parts of the real prompt.

        Args:
            rendered: Its text.
            token_ids: Its tokens.
            special_ids: The id of each special string.

        Returns:
            The parts up to the first special token that the skeleton does not have.
        """
        real = self._special_strings.find_all(rendered)
        pairs = zip(self._specials, real, strict=False)
        same = [special for special, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        indices = list(_positions([special_ids[special] for special in same], token_ids))
        parts: list[PromptPart] = []
        for place in self._places:
            if place.special >= len(indices):
                break
            start = indices[place.special] + place.is_after if place.special >= 0 else 0
            if place.labels and (not parts or parts[-1].label != place.label):
                parts.append(PromptPart(place.label, start))
        return tuple(parts)


def _labels_between(turns: Sequence[Turn], numbers: Sequence[int]) -> Iterator[list[str]]:
    """Labels of the turns that have no mark: before the first mark, and behind each."""
    start = 0
    for end in (*numbers, len(turns)):
        yield [label for turn in turns[start:end] for label in turn[LABELS]] if start < end else []
        start = end + 1


def _positions(ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[int]:
    """Where each of these tokens is, one after the other."""
    position = -1
    for token_id in ids:
        try:
            position = token_ids.index(token_id, position + 1)
        except ValueError:  # the tokenizer made something else of it
            return
        yield position
