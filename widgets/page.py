"""A page of lines that can be longer than the screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

DrawPage = Callable[[int], list[Content]]
"""Makes the lines for a width in cells."""


class Page(ScrollView, can_focus=True):
    """Lines in a box, drawn once for each width.

    Args:
        title: In the border.
        draw: Makes the lines.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "Scroll; arrows and page keys too.", show=False),
        Binding("k", "scroll_up", "Scroll; arrows and page keys too.", show=False),
        Binding("g", "scroll_home", "Go to the top or the end.", show=False),
        Binding("G", "scroll_end", "Go to the top or the end.", show=False),
    ]

    def __init__(self, title: str, draw: DrawPage) -> None:
        super().__init__(classes="page")
        self.border_title = title
        self._draw = draw
        self._width = 0
        self._lines: list[Content] = []

    def show(self, draw: DrawPage) -> None:
        """Shows other lines, from the place where the page is scrolled to."""
        self._draw = draw
        self._width = 0
        self._fit()
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The number of lines at this width."""
        return len(self._lines_for(width))

    def on_resize(self) -> None:
        """Lays the text out for another width."""
        self._fit()

    def _fit(self) -> None:
        width = self.scrollable_content_region.width
        self.virtual_size = Size(width, len(self._lines_for(width)))

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width = self.scrollable_content_region.width
        lines = self._lines_for(width)
        index = y + round(self.scroll_y)
        if index >= len(lines):
            return Strip.blank(width, self.rich_style)
        strip = Visual.to_strips(self, lines[index], width, 1, self.visual_style, pad=True)[0]
        return strip.adjust_cell_length(width, self.rich_style)

    def _lines_for(self, width: int) -> list[Content]:
        if width != self._width and width > 0:
            self._width = width
            self._lines = [line.truncate(width) for line in self._draw(width)]
        return self._lines
