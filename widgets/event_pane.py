"""Events and, on demand, log lines: newest first, by level and filter, and back in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from engine.snapshot import EngineEvent
from styles.tokens import DIM, MUTED
from widgets.event_log import event_lines
from widgets.format import shorten
from widgets.pane import Pane

LEVELS = ("info", "warning", "error")
LEVEL_WORDS = {"info": "all levels", "warning": "warnings and errors", "error": "errors"}
FILTER_CELLS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsSlice:
    """What there is to list.

    Attributes:
        events: Rare things that the engine did, oldest first.
        log: Lines of the log in the same form, oldest first; None where there is no log to show.
    """

    events: tuple[EngineEvent, ...] = ()
    log: tuple[EngineEvent, ...] | None = None


class EventsPane(Pane[EventsSlice]):
    """As many of the newest entries as fit, or older ones while somebody looks back.

    Args:
        zone: Of the times shown; None is the machine's own.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_entries(1)", "Look back, or forward again.", show=False),
        Binding("up,k", "scroll_entries(-1)", "Look back, or forward again.", show=False),
        Binding("pagedown,ctrl+f", "scroll_pages(1)", "The same by pages.", show=False),
        Binding("pageup,ctrl+b", "scroll_pages(-1)", "The same by pages.", show=False),
        Binding("home,g", "newest", "Go to the newest or the oldest.", show=False),
        Binding("end,G", "oldest", "Go to the newest or the oldest.", show=False),
        Binding("v", "next_level", "Show all, or warnings and errors, or errors.", show=False),
        Binding("l", "toggle_log", "Show the lines of the log too, or hide them.", show=False),
        Binding("slash", "open_filter", "Filter by kind or text.", show=False),
    ]

    def __init__(self, zone: tzinfo | None = None) -> None:
        super().__init__(EventsSlice(), "events", widget_id="events")
        self._zone = zone
        self._entries: tuple[EngineEvent, ...] = ()
        self._top = 0
        self._level = LEVELS[0]
        self._pattern = ""
        self._has_log = False

    def compose(self) -> ComposeResult:
        """The filter line, which appears on demand; the pane draws the rest itself."""
        yield Input(placeholder="kind or text; enter keeps, escape clears", compact=True)

    def on_mount(self) -> None:
        """Says how to choose what is listed."""
        self._line.display = False
        self._list_anew()

    @property
    def _line(self) -> Input:
        return self.query_one(Input)

    @property
    def shows_log(self) -> bool:
        """Whether log lines are listed too."""
        return self._has_log

    def slice_changed(self) -> None:
        """Lists what is new; who looks back goes on looking at the same entries."""
        if self.is_mounted:
            self._list_anew()

    def _list_anew(self) -> None:
        before = self._entries[self._top] if self._top < len(self._entries) else None
        self._entries = self._chosen()
        if self._top and before in self._entries:
            self._top = self._entries.index(before)
        self._top = max(0, min(self._top, len(self._entries) - 1))
        self._name_border()
        self.refresh_changed()

    def _chosen(self) -> tuple[EngineEvent, ...]:
        """What passes level and filter, newest first."""
        entries = list(self._slice.events)
        if self._has_log:
            entries += self._slice.log or ()
            entries.sort(key=lambda entry: entry.time)
        least, needle = LEVELS.index(self._level), self._pattern.strip().casefold()
        return tuple(
            entry
            for entry in reversed(entries)
            if _rank(entry.level) >= least
            and (needle in entry.text.casefold() or needle in entry.kind.casefold())
        )

    def _name_border(self) -> None:
        title = "events and log" if self._has_log else "events"
        num_chosen = len(self._entries)
        named = Content.assemble(f"{title} ", (f"{num_chosen}", "bold"))
        words = [LEVEL_WORDS[self._level]]
        if self._pattern:
            shown = shorten(self._pattern, FILTER_CELLS, self.glyphs.ellipsis)
            words.append(f"filter: {shown}")
        if self._top:
            words.append(f"{self._top} newer above")
        self.name_border(named, Content(f" {self.glyphs.separator} ".join(words)))

    def draw(self, width: int, height: int) -> list[Content]:
        """Newest first, from where somebody looks."""
        if not self._entries:
            is_chosen = self._pattern or self._level != LEVELS[0]
            words = "nothing passes the filter" if is_chosen else "nothing has happened yet"
            return [Content.styled(words, MUTED if is_chosen else DIM)]
        lines: list[Content] = []
        for entry in self._entries[self._top : self._top + height]:
            lines += event_lines(entry, width, self.glyphs, self._zone)
        return lines

    def action_scroll_entries(self, step: int) -> None:
        """Looks further back, or forward where ``step`` is negative."""
        self._go(self._top + step)

    def action_scroll_pages(self, step: int) -> None:
        """Looks a screenful further back or forward."""
        self._go(self._top + step * max(1, self.content_size.height // 2))

    def action_newest(self) -> None:
        """Follows what happens."""
        self._go(0)

    def action_oldest(self) -> None:
        """Goes back to the first entries that are remembered."""
        self._go(len(self._entries) - max(1, self.content_size.height // 2))

    def _go(self, top: int) -> None:
        top = max(0, min(top, len(self._entries) - 1))
        if top != self._top:
            self._top = top
            self._name_border()
            self.refresh()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Looks further back."""
        event.stop()
        self._go(self._top + 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Looks less far back."""
        event.stop()
        self._go(self._top - 1)

    def action_next_level(self) -> None:
        """Leaves out the next lower level, or shows all again."""
        self._level = LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)]
        self._list_anew()

    def action_toggle_log(self) -> None:
        """Lists log lines among the events, or events alone."""
        if self._slice.log is None:
            self.notify("the log of that Stoker is a file on its own machine", severity="warning")
            return
        self._has_log = not self._has_log
        self._list_anew()

    def action_open_filter(self) -> None:
        """Shows the filter line and types into it."""
        self._line.display = True
        self._line.value = self._pattern
        self._line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filters while typing."""
        event.stop()
        self._filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keeps the filter."""
        event.stop()
        self._close_filter()

    def on_key(self, event: events.Key) -> None:
        """Escape takes back one thing: the filter, then the place in the past."""
        if event.key != "escape":
            return
        if self._pattern or self._line.display:
            self._filter("")
            self._close_filter()
        elif self._top:
            self.action_newest()
        else:
            return
        event.stop()
        event.prevent_default()

    def _filter(self, pattern: str) -> None:
        if pattern != self._pattern:
            self._pattern = pattern
            self._list_anew()

    def _close_filter(self) -> None:
        self._line.display = False
        self.focus()


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else 0
