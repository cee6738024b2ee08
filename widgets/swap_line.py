"""A change of model under way, on one line across the screen."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.snapshot import SwapPhase, SwapRow
from styles.tokens import BRAND, BRIGHT, MUTED, UNICODE, WARN, WORKING, Glyphs
from widgets.bars import bar
from widgets.format import clean, percent, seconds, shorten

MAX_BAR_CELLS = 40
MIN_BAR_CELLS = 8
MARK_AND_GAP = "*   "
FIGURE_CELLS = 37
"""What share, time left and waiting requests take at most."""

PHASE_WORDS: dict[SwapPhase, str] = {
    SwapPhase.PREPARING: "looking through",
    SwapPhase.DRAINING: "running turns finish",
    SwapPhase.SAVING: "saving caches",
    SwapPhase.UNLOADING: "unloading",
    SwapPhase.LOADING: "loading",
    SwapPhase.CHECKING: "self-test of",
    SwapPhase.REBUILDING: "making room for caches under",
    SwapPhase.RESTORING: "it cannot be loaded: back to",
}
"""The part under way; what it is done to follows where it ends so."""
_ABOUT_OLD = (SwapPhase.SAVING, SwapPhase.UNLOADING, SwapPhase.RESTORING)
"""Parts that have to do with the model that was there before."""


def phase_words(swap: SwapRow) -> str:
    """What is being done, and to which model."""
    words = PHASE_WORDS[swap.phase]
    match swap.phase:
        case SwapPhase.DRAINING:
            return f"{words} before {clean(swap.to_model)} comes"
        case SwapPhase.SAVING:
            return f"{words} of {clean(swap.from_model)}"
    name = swap.from_model if swap.phase in _ABOUT_OLD else swap.to_model
    return f"{words} {clean(name)}"


def left_words(swap: SwapRow) -> str:
    """How long it will take; how long it took so far where nothing tells."""
    if swap.eta_s is None:
        return f"{seconds(swap.elapsed_s)} so far"
    return f"{seconds(swap.eta_s)} left"


def waiting_words(swap: SwapRow) -> str:
    """Who waits for it, or for whom it waits; empty where that is nobody."""
    count, is_early = swap.num_waiting, swap.phase in (SwapPhase.PREPARING, SwapPhase.DRAINING)
    if not count:
        return ""
    if is_early:
        return "1 turn to end" if count == 1 else f"{count} turns to end"
    return "1 request waits" if count == 1 else f"{count} requests wait"


class SwapLine(Widget):
    """Shows ``swap``: the part under way, a bar, the time left, who waits; hidden without one."""

    glyphs: reactive[Glyphs] = reactive(UNICODE)
    swap: reactive[SwapRow | None] = reactive(None)

    def watch_swap(self, swap: SwapRow | None) -> None:
        """Appears with a swap and goes with it."""
        self.display = swap is not None

    def render(self) -> Content:
        """All of it on one line; the bar takes what room is left."""
        swap, width = self.swap, self.content_size.width
        if swap is None or width <= 0:
            return Content("")
        room = width - FIGURE_CELLS - len(MARK_AND_GAP)
        words = shorten(phase_words(swap), room - MIN_BAR_CELLS, self.glyphs.ellipsis)
        cells = max(MIN_BAR_CELLS, min(MAX_BAR_CELLS, room - cell_len(words)))
        role = WARN if swap.phase is SwapPhase.RESTORING else WORKING
        return Content.assemble(
            (f"{self.glyphs.serving} ", role),
            (words, f"bold {BRIGHT}" if role is WORKING else f"bold {WARN}"),
            "  ",
            *bar(swap.progress, cells, BRAND, self.glyphs),
            (f" {percent(swap.progress):>4}", BRIGHT),
            (f"  {left_words(swap):<11}", MUTED),
            (f"  {waiting_words(swap)}", MUTED),
        )
