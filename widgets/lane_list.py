"""The rows of the agents table and their headings; both know only lanes, not orders or filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual
from textual.widget import Widget

from engine.snapshot import AgentRow
from styles.tokens import BRAND, MUTED, UNICODE, Glyphs
from widgets.bars import Part
from widgets.lanes import GAP, Layout, column_at, headings, lane, layout_for
from widgets.recent_rates import Rates, RecentRates

CURSOR_CELLS = 2
MAX_STRIPS = 256
"""Drawn lanes that are kept: most lanes are the same when the whole screen is drawn again."""


class Headings(Widget):
    """The table's first line; a click on a heading sorts."""

    sorted_by: reactive[str] = reactive("")
    glyphs: reactive[Glyphs] = reactive(UNICODE)
    lane_cells: reactive[int] = reactive(1)
    """Width of a lane: a scroll bar beside the rows narrows them."""

    class Clicked(Message):
        """A heading was clicked."""

        def __init__(self, column: str) -> None:
            self.column = column
            super().__init__()

    def render(self) -> Content:
        """Headings where their columns are."""
        cells = headings(self._layout_now, self.sorted_by, self.glyphs)
        parts: list[Part] = [(" " * CURSOR_CELLS, "")]
        for key, part in cells:
            if key != cells[0][0]:
                parts.append((GAP, ""))
            parts.append(part)
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        """Sorts by the column under the mouse."""
        column = column_at(self._layout_now, event.x - CURSOR_CELLS)
        if column is not None:
            self.post_message(self.Clicked(column))

    @property
    def _layout_now(self) -> Layout:
        return layout_for(max(1, self.lane_cells - CURSOR_CELLS))


AgentKey = tuple[str, str]
"""Namespace and id of an agent."""


class LaneList(ScrollView, can_focus=True):
    """The rows. Only lines on the screen are drawn, and only those that changed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Select an agent.", show=False),
        Binding("down,j", "move(1)", "Select an agent.", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Go a page up or down.", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Go a page up or down.", show=False),
        Binding("home,g", "jump(0)", "Go to the first or the last one.", show=False),
        Binding("end,G", "jump(-1)", "Go to the first or the last one.", show=False),
        Binding("enter", "open", "Explain the agent.", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"lane--cursor", "lane--hover"}

    glyphs: reactive[Glyphs] = reactive(UNICODE)

    class Moved(Message):
        """The cursor is on another agent, or on none."""

        def __init__(self, key: AgentKey | None) -> None:
            self.key = key
            super().__init__()

    class Widened(Message):
        """The lanes have another width."""

        def __init__(self, num_cells: int) -> None:
            self.num_cells = num_cells
            super().__init__()

    class Opened(Message):
        """An agent's detail is asked for."""

        def __init__(self, key: AgentKey) -> None:
            self.key = key
            super().__init__()

    def __init__(self) -> None:
        self._strips: dict[tuple[AgentRow, Rates, bool, int, Style], Strip] = {}
        self.recent = RecentRates()
        super().__init__()
        self._rows: tuple[AgentRow, ...] = ()
        self._lanes: list[tuple[Part, ...]] = []
        self._nothing = ""
        self._cursor = 0
        self._hover: int | None = None

    @property
    def selected(self) -> AgentRow | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    def show_rows(self, rows: tuple[AgentRow, ...], nothing: str = "") -> None:
        """Shows rows; the cursor stays on its agent, wherever that is now.

        Args:
            rows: The agents, in their order.
            nothing: What is said where there are none.
        """
        before = self.selected
        if not rows and nothing != self._nothing:
            self.refresh()
        self._nothing = nothing
        self._rows = rows
        keys = [row.key for row in rows]
        if before is not None and before.key in keys:
            self._cursor = keys.index(before.key)
        else:
            self._cursor = max(0, min(self._cursor, len(rows) - 1))
        self.virtual_size = Size(self._lane_cells, len(rows))
        self._draw_lanes()
        if self._selected_key() != (before.key if before else None):
            self.post_message(self.Moved(self._selected_key()))

    def _draw_lanes(self) -> None:
        layout = layout_for(max(1, self._lane_cells - CURSOR_CELLS))
        lanes = [
            lane(row, layout, self.glyphs, self.recent.of(row.key)) for row in self._visible_rows()
        ]
        if len(lanes) != len(self._lanes):
            self.refresh()
        else:
            for y, (new, old) in enumerate(zip(lanes, self._lanes, strict=True)):
                if new != old:
                    self.refresh_line(y)
        self._lanes = lanes

    def lanes_on_screen(self) -> list[tuple[int, AgentKey]]:
        """The agents whose lanes can be seen, with the line of the screen that each is on."""
        top = self.region.y
        return [(top + y, row.key) for y, row in enumerate(self._visible_rows())]

    def go_to(self, key: AgentKey) -> None:
        """Moves the cursor to an agent, if it has a lane."""
        keys = [row.key for row in self._rows]
        if key in keys:
            self._go(keys.index(key))

    def _visible_rows(self) -> Sequence[AgentRow]:
        top = round(self.scroll_y)
        return self._rows[top : top + max(1, self.size.height)]

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width = self._lane_cells
        index = y + round(self.scroll_y)
        style = self.visual_style
        if index >= len(self._rows):
            return self._without_lane(index, width, style)
        is_cursor = index == self._cursor
        if is_cursor:
            style = style + self.get_visual_style("lane--cursor", partial=True)
        elif index == self._hover:
            style = style + self.get_visual_style("lane--hover", partial=True)
        row = self._rows[index]
        look = (row, self.recent.of(row.key), is_cursor, width, style)
        strip = self._strips.get(look)
        if strip is None:
            if len(self._strips) >= MAX_STRIPS:
                self._strips.clear()
            strip = self._strips[look] = self._drawn(row, is_cursor, width, style)
        return strip

    def _without_lane(self, index: int, width: int, style: Style) -> Strip:
        if index or not self._nothing:
            return Strip.blank(width, style.rich_style)
        words = Content.assemble(" " * CURSOR_CELLS, (self._nothing, MUTED))
        strip = Visual.to_strips(self, words, width, 1, style, pad=True)[0]
        return strip.adjust_cell_length(width, style.rich_style)

    def _drawn(self, row: AgentRow, is_cursor: bool, width: int, style: Style) -> Strip:
        layout = layout_for(max(1, width - CURSOR_CELLS))
        mark: Part = (self.glyphs.cursor if is_cursor else " ", BRAND)
        content = Content.assemble(
            mark, " ", *lane(row, layout, self.glyphs, self.recent.of(row.key))
        )
        strip = Visual.to_strips(self, content, width, 1, style, pad=True)[0]
        return strip.adjust_cell_length(width, style.rich_style)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other rows are visible now."""
        super().watch_scroll_y(old_value, new_value)
        self._lanes = []

    def watch_glyphs(self) -> None:
        """Every lane looks different."""
        self._lanes = []
        self._strips = {}
        self.refresh()

    def notify_style_update(self) -> None:
        """Another theme has other colours."""
        super().notify_style_update()
        self._strips.clear()

    @property
    def _lane_cells(self) -> int:
        """Width of a lane: what a scroll bar leaves of the list's."""
        return self.scrollable_size.width

    def on_resize(self) -> None:
        """Columns are laid out again."""
        self._lay_out()

    def watch_show_vertical_scrollbar(self) -> None:
        """A scroll bar came or went: the lanes have another width."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        self._lanes = []
        self.virtual_size = Size(self._lane_cells, len(self._rows))
        self.refresh()
        self.post_message(self.Widened(self._lane_cells))

    def action_move(self, step: int) -> None:
        """Moves the cursor by ``step`` rows."""
        self._go(self._cursor + step)

    def action_page(self, step: int) -> None:
        """Moves the cursor by a screenful."""
        self._go(self._cursor + step * max(1, self.size.height - 1))

    def action_jump(self, index: int) -> None:
        """Moves the cursor to the first (0) or last (-1) row."""
        self._go(index if index >= 0 else len(self._rows) - 1)

    def action_open(self) -> None:
        """Asks for the detail of the selected agent."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected.key))

    def on_click(self, event: events.Click) -> None:
        """Selects the lane under the mouse; a double click opens it."""
        index = event.y + round(self.scroll_y)
        if index < len(self._rows):
            self._go(index)
            if event.chain == 2:
                self.action_open()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Marks the lane under the mouse."""
        self._hover_over(event.y + round(self.scroll_y))

    def on_leave(self) -> None:
        """No lane is under the mouse any more."""
        self._hover_over(None)

    def _hover_over(self, index: int | None) -> None:
        if index != self._hover:
            self._hover = index
            self.refresh()

    def _go(self, index: int) -> None:
        index = max(0, min(index, len(self._rows) - 1))
        if index == self._cursor or not self._rows:
            return
        self._cursor = index
        top, height = round(self.scroll_y), max(1, self.size.height)
        if index < top:
            self.scroll_to(y=index, animate=False)
        elif index >= top + height:
            self.scroll_to(y=index - height + 1, animate=False)
        self.refresh()
        self.post_message(self.Moved(self._selected_key()))

    def _selected_key(self) -> AgentKey | None:
        return self.selected.key if self.selected else None
