"""The base of screens that are one page of lines over the main screen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen

from app.dashboard.screens.breakpoints import NO_BREAKPOINTS
from styles.tokens import Glyphs
from widgets.page import Page


class PageScreen(ModalScreen[None]):
    """One page, left by escape.

    Args:
        glyphs: Marks to draw with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close it.", show=False)
    ]
    AUTO_FOCUS = "Page"
    PAGE_TITLE: ClassVar[str]
    PAGE_KEYS: ClassVar[str] = "escape closes"

    HORIZONTAL_BREAKPOINTS = NO_BREAKPOINTS
    VERTICAL_BREAKPOINTS = NO_BREAKPOINTS

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        """The page."""
        page = Page(self.PAGE_TITLE, self.draw)
        page.border_subtitle = self.PAGE_KEYS
        yield page

    def redraw(self) -> None:
        """Draws the page anew."""
        self.query_one(Page).show(self.draw)

    def draw(self, width: int) -> list[Content]:
        """The page's lines for a width."""
        raise NotImplementedError
