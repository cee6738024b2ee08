"""Help: every key, mark and colour, on a screen that is laid out once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual

from app.dashboard.action import DashboardAction
from app.dashboard.help_text import Entry, Section, key_sections, language_sections, place_sections
from app.dashboard.key_words import spelled
from app.dashboard.screens.breakpoints import NO_BREAKPOINTS
from styles.tokens import BRAND, PLAIN, Glyphs

TWO_COLUMNS_FROM = 90
GUTTER_CELLS = 3


def _hanging(entry: Entry, indent: int, width: int) -> list[Content]:
    """An entry's lines: the head once, the text beside it. A click on an action carries it out."""
    click = Style.from_meta({"@click": f"screen.carry_out('{entry.action}')"})
    pieces = Content.styled(entry.text, PLAIN).wrap(max(8, width - indent))
    heads = [entry.head] + [""] * (len(pieces) - 1)
    lines = [
        Content.assemble((f" {head:<{indent - 1}}", entry.role), piece)
        for head, piece in zip(heads, pieces, strict=True)
    ]
    return [line.stylize(click) for line in lines] if entry.action else lines


def column(sections: Sequence[Section], width: int) -> list[Content]:
    """Sections below each other, as lines of at most ``width`` cells."""
    lines: list[Content] = []
    for section in sections:
        lines += [Content("")] if lines else []
        lines.append(Content.styled(section.title, f"bold {BRAND}"))
        indent = 3 + max(len(entry.head) for entry in section.entries)
        for entry in section.entries:
            lines += _hanging(entry, indent, width)
    return lines


class HelpText(ScrollView, can_focus=True):
    """Two columns where there is room, one below the other elsewhere. Lines are drawn once.

    Args:
        left: Sections of the first column.
        right: Sections of the second.
    """

    auto_links = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "Scroll.", show=False),
        Binding("k", "scroll_up", "Scroll.", show=False),
    ]

    def __init__(self, left: Sequence[Section], right: Sequence[Section]) -> None:
        super().__init__(classes="help")
        self.border_title = "Keys, marks and colours"
        self.border_subtitle = "a click carries out, escape closes"
        self._left = left
        self._right = right
        self._width = 0
        self._lines: list[Content] = []

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The number of lines at this width."""
        return len(self._lines_for(width))

    def on_resize(self) -> None:
        """Lays the text out for another width."""
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
        if width != self._width:
            self._width = width
            self._lines = self._laid_out(width)
        return self._lines

    def _laid_out(self, width: int) -> list[Content]:
        if width < TWO_COLUMNS_FROM:
            return [*column(self._left, width), Content(""), *column(self._right, width)]
        room = (width - GUTTER_CELLS) // 2
        pairs = zip_longest(
            column(self._left, room), column(self._right, room), fillvalue=Content("")
        )
        return [
            Content.assemble(left, " " * (room + GUTTER_CELLS - left.cell_length), right)
            for left, right in pairs
        ]


class HelpScreen(ModalScreen[None]):
    """Keys at the left; the language of the screen, and keys of single places, at the right.

    Nothing below shines through, so that opening it does not draw the main screen again.

    Args:
        actions: What is offered.
        glyphs: Marks to explain.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "dismiss", "Close it.", show=False)
    ]
    HORIZONTAL_BREAKPOINTS = NO_BREAKPOINTS
    VERTICAL_BREAKPOINTS = NO_BREAKPOINTS

    def __init__(self, actions: Sequence[DashboardAction], glyphs: Glyphs) -> None:
        super().__init__()
        self._actions = actions
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        """The text alone."""
        keys = self._spelled(key_sections(self._actions))
        marks = language_sections(self._glyphs)
        yield HelpText(keys, [*marks, *self._spelled(place_sections())])

    def _spelled(self, sections: Sequence[Section]) -> list[Section]:
        return [
            replace(
                each,
                entries=tuple(
                    replace(entry, head=spelled(entry.head, self._glyphs)) for entry in each.entries
                ),
            )
            for each in sections
        ]

    def action_carry_out(self, name: str) -> None:
        """Closes the help and does what was clicked, on the screen below."""
        below = self.app.screen_stack[-2]
        self.dismiss()
        self.app.call_later(below.run_action, name)
