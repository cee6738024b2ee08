"""Letters over the main screen: type one to go there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Offset
from textual.screen import ModalScreen
from textual.widgets import Static

from app.dashboard.screens.breakpoints import NO_BREAKPOINTS

LETTERS = "asdfghjklqwertyuiopzxcvbnmASDFGHJKLQWERTYUIOPZXCVBNM"
"""In the order in which they are given out: those under the fingers first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A place to go to.

    Attributes:
        place: Where its letter stands on the screen.
        pane: Id of the pane that it is, or is in.
        lane: Namespace and id of an agent; None for the pane itself.
    """

    place: Offset
    pane: str
    lane: tuple[str, str] | None = None


class Letter(Static):
    """One letter; a click on it is as good as the key."""

    def __init__(self, letter: str, target: Target) -> None:
        super().__init__(Content(f" {letter} "), classes="letter")
        self.target = target
        self.absolute_offset = target.place

    def on_click(self, event: events.Click) -> None:
        """Goes to its place."""
        event.stop()
        self.screen.dismiss(self.target)


class JumpScreen(ModalScreen[Target | None]):
    """The main screen with a letter on every place. Gives the place that was chosen, or None.

    Args:
        targets: The places; those beyond the last letter get none.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Stay here.", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = NO_BREAKPOINTS
    VERTICAL_BREAKPOINTS = NO_BREAKPOINTS

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self._targets = dict(zip(LETTERS, targets, strict=False))

    def compose(self) -> ComposeResult:
        """A letter on each place."""
        for letter, target in self._targets.items():
            yield Letter(letter, target)

    def on_key(self, event: events.Key) -> None:
        """Goes to the place of a letter."""
        target = self._targets.get(event.character or "")
        if target is not None:
            event.stop()
            self.dismiss(target)

    def on_click(self) -> None:
        """Closes: no letter was clicked."""
        self.dismiss(None)
