"""One line across the screen for when a person must act."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from styles.tokens import UNICODE, Glyphs
from widgets.format import clean


class Banner(Widget):
    """Shows ``text`` on the error colour; hidden while it is empty."""

    glyphs: reactive[Glyphs] = reactive(UNICODE)
    text: reactive[str] = reactive("", layout=True)

    def watch_text(self, text: str) -> None:
        """Appears with a text and goes with it."""
        self.display = bool(text)

    def render(self) -> Content:
        """The mark and the text, wrapped."""
        return Content(f"{self.glyphs.error} {clean(self.text)}")
