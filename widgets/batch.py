"""The running batch: who runs, who waits, and how long prefills hold decoders up."""

from __future__ import annotations

from textual.content import Content

from engine.snapshot import BatchRow
from styles.tokens import BRIGHT, DIM, GOOD, MUTED, WARN, WORKING
from widgets.bars import bar
from widgets.format import seconds, short_ids, shorten
from widgets.pane import Pane

LABEL_CELLS = 10
LONG_WAIT_S = 1.0


class BatchPane(Pane[BatchRow]):
    """The batch in words and one bar."""

    def __init__(self) -> None:
        super().__init__(BatchRow(), "batch", widget_id="batch")

    def draw(self, width: int, height: int) -> list[Content]:
        """Most telling line first, since short panes cut the end."""
        return [
            self._running_line(),
            self._waiting_line(),
            self._stall_line(width),
            self._slice_line(),
            *self._who_lines(),
        ]

    def _running_line(self) -> Content:
        batch = self._slice
        return Content.assemble(
            (f"{'running':<{LABEL_CELLS}}", MUTED),
            (f"{batch.num_running:>3}", BRIGHT if batch.num_running else DIM),
            ("   decoding ", MUTED),
            (f"{batch.num_decoding}", GOOD if batch.num_decoding else DIM),
        )

    def _waiting_line(self) -> Content:
        batch = self._slice
        if not batch.num_waiting:
            return Content.assemble((f"{'waiting':<{LABEL_CELLS}}", MUTED), ("  0", DIM))
        role = WARN if batch.oldest_wait_s > LONG_WAIT_S else BRIGHT
        return Content.assemble(
            (f"{'waiting':<{LABEL_CELLS}}", MUTED),
            (f"{batch.num_waiting:>3}", role),
            ("   oldest ", MUTED),
            (seconds(batch.oldest_wait_s), role),
        )

    def _stall_line(self, width: int) -> Content:
        batch = self._slice
        limit = batch.stall_limit_ms
        ratio = batch.stall_ms / limit if limit else 0.0
        figure = f"{batch.stall_ms:>3.0f}"
        room = max(3, min(16, width - LABEL_CELLS - 16))
        return Content.assemble(
            (f"{'stall':<{LABEL_CELLS}}", MUTED),
            (figure, BRIGHT if batch.stall_ms else DIM),
            (f" of {limit:.0f} ms  ", MUTED),
            *bar(ratio, room, WARN if ratio > 1 else WORKING, self.glyphs),
        )

    def _slice_line(self) -> Content:
        batch = self._slice
        return Content.assemble(
            (f"{'slice':<{LABEL_CELLS}}", MUTED),
            (f"{batch.slice_tokens:>3}", BRIGHT if batch.slice_tokens else DIM),
            (" tokens", MUTED),
        )

    def _who_lines(self) -> list[Content]:
        batch = self._slice
        if not batch.prefilling:
            return [Content(""), Content.styled("nobody is prefilling", DIM)]
        name = shorten(short_ids(batch.prefilling), 22, self.glyphs.ellipsis)
        line = Content.assemble((name, WORKING), (" is prefilling", MUTED))
        num_held = batch.num_decoding
        if not num_held:
            return [Content(""), line]
        decoders = "1 decoder" if num_held == 1 else f"{num_held} decoders"
        held = Content.styled(f"holds {decoders} back {batch.stall_ms:.0f} ms a step", MUTED)
        return [Content(""), line, held]
