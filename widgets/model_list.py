"""The models to choose from, a line each, with a cursor for keys and mouse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.snapshot import ModelChoice
from styles.tokens import Glyphs
from widgets.model_lines import model_line


class ModelList(OptionList):
    """Models; the first click on one looks at it, the second chooses it.

    Args:
        glyphs: Marks to draw with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Go down or up; arrows too.", show=False),
        Binding("k", "cursor_up", "Go down or up; arrows too.", show=False),
        Binding("g", "first", "Go to the first or the last model.", show=False),
        Binding("G", "last", "Go to the first or the last model.", show=False),
    ]

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__(compact=True, markup=False)
        self._glyphs = glyphs
        self._choices: Sequence[ModelChoice] = ()

    @property
    def choice(self) -> ModelChoice | None:
        """The model under the cursor."""
        at = self.highlighted
        return self._choices[at] if at is not None and at < len(self._choices) else None

    def show(self, choices: Sequence[ModelChoice]) -> None:
        """Shows models; the cursor stays on its own, or begins at the first that is not active."""
        before = self.choice
        names = [choice.model_id for choice in choices]
        self._choices = ()
        self.clear_options()
        self._choices = choices
        self.add_options([Option("") for _ in choices])
        if before is not None and before.model_id in names:
            self.highlighted = names.index(before.model_id)
        elif choices:
            self.highlighted = min(1, len(choices) - 1) if choices[0].is_active else 0
        self._draw_lines()

    def _draw_lines(self) -> None:
        width = self.scrollable_content_region.width
        if width <= 0:
            return
        for at, choice in enumerate(self._choices):
            line = model_line(choice, width, self._glyphs, is_cursor=at == self.highlighted)
            self.replace_option_prompt_at_index(at, line.truncate(width))

    def on_resize(self) -> None:
        """Columns are laid out again."""
        self._draw_lines()

    def watch_highlighted(self, highlighted: int | None) -> None:
        """Moves the mark with the cursor."""
        super().watch_highlighted(highlighted)
        self._draw_lines()

    async def _on_click(self, event: events.Click) -> None:
        """Looks at the model under the mouse, or chooses it where it was looked at before."""
        event.prevent_default()  # an option list chooses with the first click
        at = event.style.meta.get("option")
        if at is None:
            return
        if at == self.highlighted:
            self.action_select()
        else:
            self.highlighted = at
