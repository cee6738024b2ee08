"""What is shown in place of the agents while a model is being loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from engine.snapshot import EngineStatus
from styles.tokens import BRAND, BRIGHT, DIM, MUTED
from widgets.bars import bar
from widgets.format import percent, shorten
from widgets.pane import Pane

MAX_BAR_CELLS = 60
FAILED_LINES = (
    Content.styled("No model is being served.", BRIGHT),
    Content(""),
    Content.styled("Put right what the red line says, then start stoker again.", MUTED),
    Content.styled("`stoker doctor` checks this machine; q leaves.", MUTED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadingSlice:
    """How far a load is.

    Attributes:
        status: Of the engine.
        progress: 0-1.
        text: The part of the load under way.
    """

    status: EngineStatus = EngineStatus.STARTING
    progress: float = 0.0
    text: str = ""


class LoadingPane(Pane[LoadingSlice]):
    """Progress, what is being done, and what will be possible next."""

    can_focus = False

    def __init__(self) -> None:
        super().__init__(LoadingSlice(), "getting ready", widget_id="loading")

    def slice_changed(self) -> None:
        """Says in the border whether there is anything to wait for."""
        is_failed = self._slice.status is EngineStatus.FAILED
        self.name_border("no model" if is_failed else "getting ready")
        self.refresh_changed()

    def draw(self, width: int, height: int) -> list[Content]:
        """A bar in the middle of the pane."""
        shown = self._slice
        if shown.status is EngineStatus.FAILED:
            return _centred_block(FAILED_LINES, width, height)
        is_loading = shown.status is EngineStatus.LOADING
        bar_width = min(MAX_BAR_CELLS, width - 6)
        text = shown.text or ("loading a model" if is_loading else "starting the engine")
        lines = [
            Content.styled(shorten(text, width - 2, self.glyphs.ellipsis), BRIGHT),
            Content.assemble(
                *bar(shown.progress, bar_width, BRAND, self.glyphs),
                (f" {percent(shown.progress):>4}", BRIGHT if shown.progress else DIM),
            ),
            Content(""),
            Content.styled("the dashboard works meanwhile: ? shows the keys", MUTED),
        ]
        return _centred_block(lines, width, height)


def _centred_block(lines: Sequence[Content], width: int, height: int) -> list[Content]:
    above = max(0, (height - len(lines)) // 2)
    return [Content("")] * above + [_centred(line, width) for line in lines]


def _centred(line: Content, width: int) -> Content:
    return Content.assemble(" " * max(0, (width - line.cell_length) // 2), line)
