"""The agents table: one live lane per agent, with a cursor, a sort order and a filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget
from textual.widgets import Input

from engine.snapshot import AgentRow
from styles.tokens import BRAND, MUTED, UNICODE, Glyphs
from widgets.bars import Part
from widgets.format import shorten
from widgets.lanes import Layout, column_at, headings, lane, layout_for
from widgets.pane import Pane

ACTIVITY = "activity"
"""The engine's own order: most recently active first."""

SORT_KEYS: dict[str, Callable[[AgentRow], Any]] = {
    "agent": lambda row: row.agent_id.casefold(),
    "state": lambda row: row.status.value,
    "context": lambda row: -row.num_context_tokens,
    "hot": lambda row: -row.hot_bytes,
    "shared": lambda row: -row.shared_bytes,
    "hit": lambda row: row.hit_ratio if row.hit_ratio is not None else 2.0,
    "rate": lambda row: -row.decode_tok_s,
    "ttft": lambda row: -(row.ttft_s or 0.0),
    "miss": lambda row: (not row.last_miss, row.last_miss),
}
SORT_CYCLE = (ACTIVITY, "agent", "context", "hot", "hit", "ttft")
SORT_WORDS = {"rate": "tok/s", "miss": "last miss"}
CURSOR_CELLS = 2


class Headings(Widget):
    """The table's first line; a click on a heading sorts."""

    sorted_by: reactive[str] = reactive(ACTIVITY)
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
                parts.append(("  ", ""))
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


class LaneList(ScrollView, can_focus=True):
    """The rows. Only lines on the screen are drawn, and only those that changed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "jump(0)", "First", show=False),
        Binding("end,G", "jump(-1)", "Last", show=False),
        Binding("enter", "open", "Detail", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"lane--cursor", "lane--hover"}

    glyphs: reactive[Glyphs] = reactive(UNICODE)

    class Moved(Message):
        """The cursor is on another agent, or on none."""

        def __init__(self, agent_id: str | None) -> None:
            self.agent_id = agent_id
            super().__init__()

    class Widened(Message):
        """The lanes have another width."""

        def __init__(self, num_cells: int) -> None:
            self.num_cells = num_cells
            super().__init__()

    class Opened(Message):
        """An agent's detail is asked for."""

        def __init__(self, agent_id: str) -> None:
            self.agent_id = agent_id
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[AgentRow, ...] = ()
        self._lanes: list[tuple[Part, ...]] = []
        self._cursor = 0
        self._hover: int | None = None

    @property
    def selected(self) -> AgentRow | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    def show_rows(self, rows: tuple[AgentRow, ...]) -> None:
        """Shows rows; the cursor stays on its agent, wherever that is now."""
        before = self.selected
        self._rows = rows
        ids = [row.agent_id for row in rows]
        if before is not None and before.agent_id in ids:
            self._cursor = ids.index(before.agent_id)
        else:
            self._cursor = max(0, min(self._cursor, len(rows) - 1))
        self.virtual_size = Size(self.size.width, len(rows))
        self._draw_lanes()
        if self._selected_id() != (before.agent_id if before else None):
            self.post_message(self.Moved(self._selected_id()))

    def _draw_lanes(self) -> None:
        layout = layout_for(max(1, self.size.width - CURSOR_CELLS))
        lanes = [lane(row, layout, self.glyphs) for row in self._visible_rows()]
        if len(lanes) != len(self._lanes):
            self.refresh()
        else:
            for y, (new, old) in enumerate(zip(lanes, self._lanes, strict=True)):
                if new != old:
                    self.refresh_line(y)
        self._lanes = lanes

    def _visible_rows(self) -> Sequence[AgentRow]:
        top = round(self.scroll_y)
        return self._rows[top : top + max(1, self.size.height)]

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width = self.size.width
        index = y + round(self.scroll_y)
        if index >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        is_cursor = index == self._cursor
        layout = layout_for(max(1, width - CURSOR_CELLS))
        mark: Part = (self.glyphs.cursor if is_cursor else " ", BRAND)
        content = Content.assemble(mark, " ", *lane(self._rows[index], layout, self.glyphs))
        style = self.visual_style
        if is_cursor:
            style = style + self.get_visual_style("lane--cursor", partial=True)
        elif index == self._hover:
            style = style + self.get_visual_style("lane--hover", partial=True)
        strip = Visual.to_strips(self, content, width, 1, style, pad=True)[0]
        return strip.adjust_cell_length(width, style.rich_style)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other rows are visible now."""
        super().watch_scroll_y(old_value, new_value)
        self._lanes = []

    def watch_glyphs(self) -> None:
        """Every lane looks different."""
        self._lanes = []
        self.refresh()

    def on_resize(self) -> None:
        """Columns are laid out again."""
        self._lanes = []
        self.virtual_size = Size(self.size.width, len(self._rows))
        self.refresh()
        self.post_message(self.Widened(self.size.width))

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
            self.post_message(self.Opened(self.selected.agent_id))

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
        self.post_message(self.Moved(self._selected_id()))

    def _selected_id(self) -> str | None:
        return self.selected.agent_id if self.selected else None


class AgentsPane(Pane[tuple[AgentRow, ...]]):
    """All agents. Sort order and filter are the pane's own."""

    can_focus = False
    sort_by: reactive[str] = reactive(ACTIVITY)
    pattern: reactive[str] = reactive("")

    def __init__(self) -> None:
        super().__init__((), "agents", widget_id="agents")

    def compose(self) -> ComposeResult:
        """Headings, lanes, and the filter line that appears on demand."""
        yield Headings()
        yield LaneList()
        yield Input(placeholder="agent or state; enter keeps, escape clears", compact=True)

    def render(self) -> Content:
        """Nothing of its own: the children draw."""
        return Content("")

    @property
    def lanes(self) -> LaneList:
        """The rows."""
        return self.query_one(LaneList)

    @property
    def selected(self) -> AgentRow | None:
        """The row under the cursor."""
        return self.lanes.selected

    def on_mount(self) -> None:
        """Names the order in the border."""
        self.query_one(Input).display = False
        self._show()

    def slice_changed(self) -> None:
        """Sorts, filters and shows."""
        if self.is_mounted:
            self._show()

    def watch_sort_by(self) -> None:
        """Shows the new order."""
        self.slice_changed()

    def watch_pattern(self) -> None:
        """Shows what passes the filter."""
        self.slice_changed()

    def watch_glyphs(self, glyphs: Glyphs) -> None:
        """Passes the marks on."""
        for headings_line in self.query(Headings):
            headings_line.glyphs = glyphs
        for lane_list in self.query(LaneList):
            lane_list.glyphs = glyphs

    def cycle_sort(self) -> None:
        """Takes the next order of the usual ones."""
        at = SORT_CYCLE.index(self.sort_by) if self.sort_by in SORT_CYCLE else -1
        self.sort_by = SORT_CYCLE[(at + 1) % len(SORT_CYCLE)]

    def open_filter(self) -> None:
        """Shows the filter line and types into it."""
        line = self.query_one(Input)
        line.display = True
        line.value = self.pattern
        line.focus()

    def close_filter(self, *, keep: bool) -> None:
        """Hides the filter line; ``keep`` leaves the filter on."""
        if not keep:
            self.pattern = ""
        self.query_one(Input).display = False
        self.lanes.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filters while typing."""
        event.stop()
        self.pattern = event.value

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keeps the filter."""
        event.stop()
        self.close_filter(keep=True)

    def on_key(self, event: events.Key) -> None:
        """Escape clears the filter, in the filter line and out of it."""
        if event.key == "escape" and (self.pattern or self.query_one(Input).display):
            event.stop()
            event.prevent_default()
            self.close_filter(keep=False)

    def on_lane_list_widened(self, event: LaneList.Widened) -> None:
        """Keeps the headings over their columns."""
        event.stop()
        self.query_one(Headings).lane_cells = event.num_cells

    def on_headings_clicked(self, event: Headings.Clicked) -> None:
        """Sorts by a heading; a second click goes back to activity."""
        event.stop()
        self.sort_by = ACTIVITY if self.sort_by == event.column else event.column

    def _show(self) -> None:
        rows = self._matching()
        if self.sort_by in SORT_KEYS:
            rows = tuple(sorted(rows, key=SORT_KEYS[self.sort_by]))
        self.query_one(Headings).sorted_by = self.sort_by
        self.lanes.show_rows(rows)
        self._name_border(len(rows))

    def _matching(self) -> tuple[AgentRow, ...]:
        needle = self.pattern.strip().casefold()
        if not needle:
            return self._slice
        return tuple(
            row
            for row in self._slice
            if needle in row.agent_id.casefold() or needle in row.status.value
        )

    def _name_border(self, num_shown: int) -> None:
        total = len(self._slice)
        count = f"{total}" if num_shown == total else f"{num_shown} of {total}"
        title = Content.assemble("agents ", (count, "bold"))
        subtitle = Content(f"sort: {SORT_WORDS.get(self.sort_by, self.sort_by)}")
        if self.pattern:
            word = shorten(self.pattern, 24, self.glyphs.ellipsis)
            subtitle = Content.assemble(("filter: ", MUTED), (word, BRAND), "  ", subtitle)
        if (title.markup, subtitle.markup) != (self.border_title, self.border_subtitle):
            self.border_title = title.markup
            self.border_subtitle = subtitle.markup
