"""The base of every pane: a bordered box that draws one slice of the snapshot."""

from __future__ import annotations

from typing import Generic, TypeVar

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from styles.tokens import UNICODE, Glyphs

SliceT = TypeVar("SliceT")


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
        self.border_title = title

    def update_from(self, part: SliceT) -> None:
        """Takes a new slice; an equal one costs nothing."""
        if part == self._slice:
            return
        self._slice = part
        self.slice_changed()

    def slice_changed(self) -> None:
        """Draws the new slice; panes with children of their own do it differently."""
        self.refresh()

    def render(self) -> Content:
        """The pane's lines, cut to its size."""
        width, height = self.content_size.width, self.content_size.height
        if width <= 0 or height <= 0:
            return Content("")
        lines = self.draw(width, height)[:height]
        return Content("\n").join([line.truncate(width) for line in lines])

    def draw(self, width: int, height: int) -> list[Content]:
        """The pane as lines of at most ``width`` cells."""
        raise NotImplementedError
