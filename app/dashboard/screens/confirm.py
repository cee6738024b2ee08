"""Asks before something is lost, and says what."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from app.dashboard.questions import Question
from app.dashboard.screens.breakpoints import NO_BREAKPOINTS


class ConfirmScreen(ModalScreen[bool]):
    """A question with two answers. The safe answer has the focus.

    Args:
        question: What is asked.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Do it.", show=False),
        Binding("n,escape,q", "answer(False)", "Leave everything as it is.", show=False),
        Binding(
            "left,right,h,l", "app.focus_next", "The other button; enter presses it.", show=False
        ),
    ]
    AUTO_FOCUS = "#no"

    HORIZONTAL_BREAKPOINTS = NO_BREAKPOINTS
    VERTICAL_BREAKPOINTS = NO_BREAKPOINTS

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Question, consequences, buttons."""
        with Vertical(classes="dialog"):
            yield Static(Content(self._question.text), classes="question")
            yield Static(Content("\n".join(self._question.consequences)), classes="consequences")
            with Horizontal(classes="buttons"):
                yield Button(
                    Content(f"{self._question.verb}  y"), id="yes", variant="error", compact=True
                )
                yield Button(Content("keep  esc"), id="no", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answers with the button."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Answers with a key."""
        self.dismiss(answer)
