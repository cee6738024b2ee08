"""Events: rare things the engine did, with the reason, as lines."""

from __future__ import annotations

import textwrap
from datetime import tzinfo

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.snapshot import EngineEvent
from styles.tokens import BRIGHT, DIM, EVENT_ROLE, MUTED, PLAIN, UNICODE, Glyphs
from widgets.format import clean, clock_time, fit, short_ids, shorten

KIND_CELLS = 8
TEXT_COLUMN = KIND_CELLS + 12


def event_lines(
    event: EngineEvent, width: int, glyphs: Glyphs, zone: tzinfo | None, num_lines: int = 2
) -> list[Content]:
    """One event: time, mark, kind, text; what does not fit ``num_lines`` is cut."""
    role = EVENT_ROLE.get(event.level, MUTED)
    mark = {"warning": glyphs.warning, "error": glyphs.error}.get(event.level, glyphs.note)
    is_plain = event.level == "info"
    room = max(8, width - TEXT_COLUMN)
    pieces = textwrap.wrap(
        clean(short_ids(event.text)), room, max_lines=num_lines, placeholder=glyphs.ellipsis
    )
    if not all(cell_len(piece) <= room for piece in pieces):  # wide characters
        pieces = [shorten(short_ids(event.text), room, glyphs.ellipsis)]
    head = Content.assemble(
        (f"{clock_time(event.time, zone)} ", MUTED),
        (f"{mark} ", DIM if is_plain else role),
        (fit(event.kind, KIND_CELLS, glyphs.ellipsis), BRIGHT if is_plain else role),
        (" ", ""),
        (pieces[0] if pieces else "", PLAIN),
    )
    rest = [Content.assemble(" " * TEXT_COLUMN, (piece, PLAIN)) for piece in pieces[1:]]
    return [head, *rest]


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
        return event_lines(self.event, width, self.glyphs, self._zone, num_lines=1)[0]
