"""One agent explained, over the main screen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from app.dashboard.screens.breakpoints import NO_BREAKPOINTS
from styles.tokens import Glyphs
from widgets.agent_detail import AgentDetail, DetailSlice

REFRESH_S = 0.5


class DetailScreen(ModalScreen[None]):
    """The explainer of one agent, kept up to date.

    Args:
        source: Gives the agent as it is now.
        glyphs: Marks to draw with.
        zone: Of the times shown; None is the machine's own.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,i", "dismiss", "Close", show=False)
    ]

    HORIZONTAL_BREAKPOINTS = NO_BREAKPOINTS
    VERTICAL_BREAKPOINTS = NO_BREAKPOINTS

    def __init__(
        self, source: Callable[[], DetailSlice], glyphs: Glyphs, zone: tzinfo | None
    ) -> None:
        super().__init__()
        self._zone = zone
        self._source = source
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        """The explainer alone."""
        detail = AgentDetail(self._zone, widget_id="detail-dialog")
        detail.glyphs = self._glyphs
        yield detail

    def on_mount(self) -> None:
        """Shows the agent now and from then on."""
        self.query_one(AgentDetail).border_subtitle = "escape closes"
        self._refresh_agent()
        self.set_interval(REFRESH_S, self._refresh_agent)

    def _refresh_agent(self) -> None:
        self.query_one(AgentDetail).update_from(self._source())
