"""One of several things to choose, over the main screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.dashboard.screens.breakpoints import NO_BREAKPOINTS


class ChoiceScreen(ModalScreen[int | None]):
    """A list with a heading. Gives the index of what was chosen, or None.

    Args:
        heading: What is chosen.
        lines: What there is, a line each.
        at: Where the cursor starts.
        preview: Told of each line that the cursor comes to.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close it; nothing changes.", show=False),
        Binding("j", "move(1)", "Go down or up; arrows too.", show=False),
        Binding("k", "move(-1)", "Go down or up; arrows too.", show=False),
    ]
    AUTO_FOCUS = "OptionList"

    HORIZONTAL_BREAKPOINTS = NO_BREAKPOINTS
    VERTICAL_BREAKPOINTS = NO_BREAKPOINTS

    def __init__(
        self,
        heading: str,
        lines: Sequence[str],
        *,
        at: int = 0,
        preview: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self._at = at
        self._preview = preview
        self._heading = heading
        self._lines = lines

    def compose(self) -> ComposeResult:
        """Heading and list."""
        with Vertical(classes="choice"):
            yield Static(Content(self._heading), classes="question")
            yield OptionList(*(Option(Content(line)) for line in self._lines), compact=True)

    def on_mount(self) -> None:
        """Says how to leave."""
        self.query_one(Vertical).border_subtitle = "enter chooses, escape closes"
        self.query_one(OptionList).highlighted = self._at

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Shows what the line would do."""
        if self._preview is not None:
            self._preview(event.option_index)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answers with the line."""
        self.dismiss(event.option_index)

    def action_move(self, step: int) -> None:
        """Moves the cursor."""
        options = self.query_one(OptionList)
        if step > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()
