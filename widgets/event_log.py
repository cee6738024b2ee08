"""Events: rare things the engine did, newest first, with the reason."""

from __future__ import annotations

from datetime import tzinfo

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.snapshot import EngineEvent
from styles.tokens import BRIGHT, DIM, EVENT_ROLE, MUTED, PLAIN, UNICODE, Glyphs
from widgets.format import clock_time, fit, shorten
from widgets.pane import Pane

KIND_CELLS = 8


def event_line(event: EngineEvent, width: int, glyphs: Glyphs, zone: tzinfo | None) -> Content:
    """One event: time, mark, kind, text."""
    role = EVENT_ROLE.get(event.level, MUTED)
    mark = {"warning": glyphs.warning, "error": glyphs.error}.get(event.level, glyphs.note)
    is_plain = event.level == "info"
    room = max(1, width - KIND_CELLS - 13)
    return Content.assemble(
        (f"{clock_time(event.time, zone)} ", MUTED),
        (f"{mark} ", DIM if is_plain else role),
        (fit(event.kind, KIND_CELLS, glyphs.ellipsis), BRIGHT if is_plain else role),
        (" ", ""),
        (shorten(event.text, room, glyphs.ellipsis), PLAIN),
    )


class EventsPane(Pane[tuple[EngineEvent, ...]]):
    """As many of the newest events as fit.

    Args:
        zone: Of the times shown; None is the machine's own.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        super().__init__((), "events", widget_id="events")
        self._zone = zone

    def draw(self, width: int, height: int) -> list[Content]:
        """Newest first."""
        if not self._slice:
            return [Content.styled("nothing has happened yet", DIM)]
        newest = reversed(self._slice[-height:])
        return [event_line(event, width, self.glyphs, self._zone) for event in newest]


class LatestEvent(Widget):
    """The newest event on one line, for screens without room for the pane."""

    glyphs: reactive[Glyphs] = reactive(UNICODE)
    event: reactive[EngineEvent | None] = reactive(None)

    def __init__(self, zone: tzinfo | None = None) -> None:
        super().__init__(id="latest-event")
        self._zone = zone

    def render(self) -> Content:
        """The event, or nothing."""
        width = self.content_size.width
        if self.event is None or width <= 0:
            return Content("")
        return event_line(self.event, width, self.glyphs, self._zone)
