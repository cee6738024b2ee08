"""What an agent's prompt had said, what it says now, and the reply that is being written."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from styles.tokens import BRIGHT, DIM, GOOD, MUTED, PLAIN, WARN
from widgets.format import clean
from widgets.pane import Pane

LEAD_LINES = 2
CHANGE_LINES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSlice:
    """Texts of one agent, as they came from outside.

    Attributes:
        problem: Why there is nothing to show; empty where there is.
        lead: The last equal text before a change; empty where nothing changed.
        was: What followed it before.
        now: What follows it now.
        is_live: Whether the running reply is to be shown.
        reply: The reply so far; None while no turn runs.
        is_cut: Whether that is only its end.
    """

    problem: str = ""
    lead: str = ""
    was: str = ""
    now: str = ""
    is_live: bool = False
    reply: str | None = None
    is_cut: bool = False


def text_lines(text: str, width: int, role: str, mark: str = "") -> list[Content]:
    """Text from outside as lines, each behind a mark; what would move the cursor is replaced."""
    lines: list[Content] = []
    for line in text.splitlines():
        # An empty line of a text is a line too.
        pieces = Content.styled(clean(line.expandtabs(4)), role).wrap(max(8, width - len(mark)))
        lines += [Content.assemble((mark, role), piece) for piece in pieces or [Content("")]]
    return lines


class AgentTextPane(Pane[TextSlice]):
    """The change that cost a turn its cache, and the running reply where it may be seen."""

    can_focus = False

    def __init__(self) -> None:
        super().__init__(TextSlice(), "text", widget_id="agent-text")

    def draw(self, width: int, height: int) -> list[Content]:
        """The change above, and the end of the reply in what room is left."""
        shown = self._slice
        if shown.problem:
            return Content.styled(shown.problem, MUTED).wrap(max(8, width))
        change = self._change(width)
        heading = Content.styled("reply of the running turn", MUTED)
        room = max(1, height - len(change) - 1)
        return [*change, heading, *self._reply(width)[-room:]]

    def _change(self, width: int) -> list[Content]:
        shown = self._slice
        if not (shown.was or shown.now):
            return [
                Content.styled("nothing that its last prompt had said before was changed", DIM),
                Content(""),
            ]
        was = text_lines(shown.was, width, WARN, "- ")[:CHANGE_LINES] or [
            Content.styled("- what it was is not known any more", DIM)
        ]
        return [
            Content.styled("where its last prompt stopped being what it was", MUTED),
            *text_lines(shown.lead, width, PLAIN, "  ")[-LEAD_LINES:],
            *was,
            *text_lines(shown.now, width, GOOD, "+ ")[:CHANGE_LINES],
            Content(""),
        ]

    def _reply(self, width: int) -> list[Content]:
        shown = self._slice
        if not shown.is_live:
            return [Content.styled("hidden; v shows it", DIM)]
        if shown.reply is None:
            return [Content.styled("no turn runs", DIM)]
        head = self.glyphs.ellipsis if shown.is_cut else ""
        return text_lines(head + shown.reply, width, BRIGHT) or [Content.styled("nothing yet", DIM)]
