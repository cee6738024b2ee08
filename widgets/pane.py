"""The base of every pane: a bordered box that draws one slice of the snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Generic, TypeVar

from textual.content import Content, Span
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.widget import Widget

from styles.tokens import UNICODE, Glyphs

SliceT = TypeVar("SliceT")
_Line = tuple[str, Sequence[Span]]
"""A line's text, and how it looks: two lines are equal for Textual where their texts are."""


def _line(line: Content) -> _Line:
    return line.plain, line.spans


def _markup(words: Content | str) -> str:
    return words.markup if isinstance(words, Content) else words


class Pane(Widget, Generic[SliceT], can_focus=True):
    """Draws its slice when it changes. A hidden pane keeps the newest slice and draws nothing.

    Args:
        first: The slice to show before any arrives.
        title: In the border.
        widget_id: Its id in the tree.
    """

    glyphs: reactive[Glyphs] = reactive(UNICODE)

    def __init__(self, first: SliceT, title: str, *, widget_id: str) -> None:
        super().__init__(id=widget_id, classes="pane", markup=False)
        self._slice = first
        self._border_words = ("", "")
        self._painted: tuple[Size, list[_Line]] | None = None
        self.name_border(title)

    def update_from(self, part: SliceT) -> None:
        """Takes a new slice; an equal one costs nothing."""
        if part == self._slice:
            return
        self._slice = part
        self.slice_changed()

    def slice_changed(self) -> None:
        """Draws the new slice; panes with children of their own do it differently."""
        self.refresh_changed()

    def name_border(self, title: Content | str, subtitle: Content | str = "") -> None:
        """Names the pane in its border; the same words again draw nothing."""
        words = _markup(title), _markup(subtitle)
        if words != self._border_words:
            self._border_words = words
            self.border_title, self.border_subtitle = title, subtitle or None

    def refresh_changed(self) -> None:
        """Has those lines drawn again that are not what they were when the pane was drawn."""
        if self._painted is None or self._painted[0] != self.content_size or not self.is_on_screen:
            self.refresh()
            return
        size, before = self._painted
        now = [_line(each) for each in self._lines(size)]
        changed = (y for y, (old, new) in enumerate(zip_longest(before, now)) if old != new)
        if regions := [Region(0, y, size.width, 1) for y in changed]:
            self.refresh(*regions)

    def render(self) -> Content:
        """The pane's lines, cut to its size."""
        size = self.content_size
        lines = self._lines(size)
        self._painted = size, [_line(each) for each in lines]
        return Content("\n").join(lines)

    def _lines(self, size: Size) -> list[Content]:
        if size.width <= 0 or size.height <= 0:
            return []
        lines = self.draw(size.width, size.height)[: size.height]
        return [line.truncate(size.width) for line in lines]

    def draw(self, width: int, height: int) -> list[Content]:
        """The pane as lines of at most ``width`` cells."""
        raise NotImplementedError
