"""The models of this machine: what each would mean for the agents, and the way to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget

from app.dashboard.model_dispatch import ModelDispatch, ModelsListed
from app.dashboard.questions import Question
from app.dashboard.screens.breakpoints import NO_BREAKPOINTS
from app.dashboard.screens.confirm import ConfirmScreen
from app.dashboard.swap_question import swap_question
from engine.cache.quantisation import KV_BITS
from engine.face import EngineFace
from engine.snapshot import ModelChoice
from styles.tokens import BAD, MUTED, Glyphs
from widgets.format import clean
from widgets.key_bar import KeyBar, KeyHint
from widgets.model_lines import model_headings, preview_lines
from widgets.model_list import ModelList
from widgets.page import Page

FORMATS: tuple[tuple[int | None, str], ...] = (
    (None, "as set"),
    (0, "lossless"),
    *((bits, f"{bits} bit") for bits in KV_BITS),
)
"""What keys and values of the model that comes can be kept in, and its name."""


def hints(format_words: str) -> tuple[KeyHint, ...]:
    """Keys at the foot.

    Args:
        format_words: The KV format that is chosen.
    """
    return (
        KeyHint(key="enter", label="swap", action="screen.choose", rank=0),
        KeyHint(key="b", label=f"KV cache: {format_words}", action="screen.bits", rank=2),
        KeyHint(key="r", label="look again", action="screen.again", rank=3),
        KeyHint(key="tab", label="to the agents", action="app.focus_next", rank=4),
        KeyHint(key="esc", label="close", action="screen.dismiss", rank=1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was chosen and confirmed.

    Attributes:
        model_id: The model.
        kv_bits: As in ``SwapModel``.
    """

    model_id: str
    kv_bits: int | None = None


class ModelHeadings(Widget):
    """The first line of the list."""

    def render(self) -> Content:
        """Headings over their columns."""
        width = self.content_size.width
        return model_headings(width).truncate(width) if width > 0 else Content("")


class ModelsScreen(ModalScreen[Wish | None]):
    """A list of models and what a swap to the one under the cursor would mean.

    Gives the model to swap to once that is confirmed, or None.

    Args:
        engine: Who tells of models.
        glyphs: Marks to draw with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,m", "dismiss", "Close it; nothing changes.", show=False),
        Binding("b", "bits", "Another format of the KV cache.", show=False),
        Binding("r", "again", "Look again.", show=False),
    ]
    AUTO_FOCUS = "ModelList"

    HORIZONTAL_BREAKPOINTS = NO_BREAKPOINTS
    VERTICAL_BREAKPOINTS = NO_BREAKPOINTS

    def __init__(self, engine: EngineFace, glyphs: Glyphs) -> None:
        super().__init__()
        self._engine = engine
        self._glyphs = glyphs
        self._dispatch = ModelDispatch(engine, self)
        self._format = 0
        self._is_listed = False
        self._problem = ""

    def compose(self) -> ComposeResult:
        """Models above, the one under the cursor below, keys at the foot."""
        with Vertical(classes="models") as box:
            box.border_title = "models"
            yield ModelHeadings()
            yield ModelList(self._glyphs)
            yield Page("", self._preview)
            yield KeyBar(hints(self._format_words))

    @property
    def _kv_bits(self) -> int | None:
        return FORMATS[self._format][0]

    @property
    def _format_words(self) -> str:
        return FORMATS[self._format][1]

    def on_mount(self) -> None:
        """Asks the engine."""
        self.action_again()

    def action_again(self) -> None:
        """Asks once more: files come and go."""
        self._dispatch.list_models(self._kv_bits)

    def action_bits(self) -> None:
        """The next KV format; the engine tells anew what each model would mean then."""
        self._format = (self._format + 1) % len(FORMATS)
        self.query_one(KeyBar).hints = hints(self._format_words)
        self.action_again()

    def on_models_listed(self, answer: ModelsListed) -> None:
        """Shows what there is."""
        self._is_listed, self._problem = True, answer.problem
        if not answer.problem:
            self.query_one(ModelList).show(answer.choices)
            self.query_one(Vertical).border_title = f"models {len(answer.choices)}"
        self._redraw()

    def on_option_list_option_highlighted(self) -> None:
        """Another model is looked at."""
        self._redraw()

    def on_option_list_option_selected(self) -> None:
        """Enter, or a second click."""
        self.action_choose()

    def action_choose(self) -> None:
        """Asks, then gives the model to swap to; or says why it cannot be."""
        choice = self.query_one(ModelList).choice
        if choice is None:
            return
        refusal = self._refusal(choice)
        if refusal:
            self.notify(refusal, severity="warning", markup=False)
            return
        wish = Wish(model_id=choice.model_id, kv_bits=self._kv_bits)
        self._ask(swap_question(choice, self._engine.snapshot), wish)

    def _ask(self, question: Question, wish: Wish) -> None:
        def confirmed(is_yes: bool | None) -> None:
            if is_yes:
                self.dismiss(wish)

        self.app.push_screen(ConfirmScreen(question), confirmed)

    def _refusal(self, choice: ModelChoice) -> str:
        shown = self._engine.snapshot
        swap, active = shown.swap, shown.model_detail
        if swap is not None:
            return f"the model is being changed to {clean(swap.to_model)} already"
        is_same = active is None or choice.kv_format in ("", active.kv_format)
        if choice.is_active and is_same:
            return f"{clean(choice.model_id)} serves already"
        if choice.refusal:
            return clean(f"{choice.model_id} cannot be loaded: {choice.refusal}")
        return ""

    def _redraw(self) -> None:
        self.query_one(Page).show(self._preview)

    def _preview(self, width: int) -> list[Content]:
        if self._problem:
            return Content.styled(f"{self._glyphs.error} {self._problem}", BAD).wrap(max(8, width))
        choice = self.query_one(ModelList).choice
        if choice is not None:
            return preview_lines(choice, width, self._glyphs)
        words = "there is no model on this machine" if self._is_listed else "looking for models"
        return [Content.styled(words, MUTED)]
