"""The agents table: one live lane per agent, with a sort order and a filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Input

from engine.snapshot import AgentRow
from styles.tokens import BRAND, MUTED, Glyphs
from widgets.format import shorten
from widgets.lane_list import Headings, LaneList
from widgets.pane import Pane

ACTIVITY = "activity"
"""The engine's own order: most recently active first."""

SORT_KEYS: dict[str, Callable[[AgentRow], Any]] = {
    "agent": lambda row: row.title.casefold(),
    "state": lambda row: row.status.value,
    "context": lambda row: -row.num_context_tokens,
    "hot": lambda row: -row.hot_bytes,
    "warm": lambda row: -row.warm_bytes,
    "shared": lambda row: -row.shared_bytes,
    "hit": lambda row: row.hit_ratio if row.hit_ratio is not None else 2.0,
    "rate": lambda row: -row.decode_tok_s,
    "ttft": lambda row: -(row.ttft_s or 0.0),
    "miss": lambda row: -row.miss.num_lost_tokens,
}
SORT_CYCLE = (ACTIVITY, *SORT_KEYS)
SORT_WORDS = {"rate": "tok/s", "miss": "last miss"}
NO_AGENTS = "no agent has called yet"
NO_MATCH = "no agent passes the filter; escape clears it"


class AgentsPane(Pane[tuple[AgentRow, ...]]):
    """All agents. Sort order and filter are the pane's own."""

    can_focus = False

    class Sorted(Message):
        """Another order was chosen."""

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
        if self.is_mounted:
            self.post_message(self.Sorted())

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
        """Takes the next order, by one column after the other."""
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
        self.lanes.show_rows(rows, NO_MATCH if self._slice else NO_AGENTS)
        self._name_border(len(rows))

    def _matching(self) -> tuple[AgentRow, ...]:
        needle = self.pattern.strip().casefold()
        if not needle:
            return self._slice
        return tuple(
            row
            for row in self._slice
            if needle in row.title.casefold() or needle in row.status.value
        )

    def _name_border(self, num_shown: int) -> None:
        total = len(self._slice)
        count = f"{total}" if num_shown == total else f"{num_shown} of {total}"
        title = Content.assemble("agents ", (count, "bold"))
        subtitle = Content(f"sort: {SORT_WORDS.get(self.sort_by, self.sort_by)}")
        if self.pattern:
            word = shorten(self.pattern, 24, self.glyphs.ellipsis)
            subtitle = Content.assemble(("filter: ", MUTED), (word, BRAND), "  ", subtitle)
        self.name_border(title.markup, subtitle.markup)
