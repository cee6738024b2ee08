"""The running batch: who runs, who waits, and how long prefills hold decoders up."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.cells import cell_len
from textual.content import Content

from engine.snapshot import AgentStatus, BatchRow, EngineSnapshot
from styles.tokens import BRIGHT, DIM, GOOD, MUTED, PLAIN, WARN, WORKING
from widgets.bars import bar
from widgets.format import clean, seconds, short_ids, shorten
from widgets.pane import Pane

LABEL_CELLS = 10
LONG_WAIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSlice:
    """The batch, and the names of those that decode in it."""

    batch: BatchRow = field(default_factory=BatchRow)
    decoding: tuple[str, ...] = ()


def batch_slice(snapshot: EngineSnapshot) -> BatchSlice:
    """The batch's part of a snapshot."""
    decoding = (row.title for row in snapshot.agents if row.status is AgentStatus.DECODING)
    return BatchSlice(batch=snapshot.batch, decoding=tuple(decoding))


class BatchPane(Pane[BatchSlice]):
    """The batch in words and one bar."""

    def __init__(self) -> None:
        super().__init__(BatchSlice(), "batch", widget_id="batch")

    def draw(self, width: int, height: int) -> list[Content]:
        """Most telling line first, since short panes cut the end."""
        return [
            self._running_line(),
            self._waiting_line(),
            self._stall_line(width),
            self._slice_line(),
            *self._who_lines(width),
        ]

    def _running_line(self) -> Content:
        batch = self._slice.batch
        return Content.assemble(
            (f"{'running':<{LABEL_CELLS}}", MUTED),
            (f"{batch.num_running:>3}", BRIGHT if batch.num_running else DIM),
            ("   decoding ", MUTED),
            (f"{batch.num_decoding}", GOOD if batch.num_decoding else DIM),
        )

    def _waiting_line(self) -> Content:
        batch = self._slice.batch
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
        batch = self._slice.batch
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
        batch = self._slice.batch
        return Content.assemble(
            (f"{'slice':<{LABEL_CELLS}}", MUTED),
            (f"{batch.slice_tokens:>3}", BRIGHT if batch.slice_tokens else DIM),
            (" tokens", MUTED),
        )

    def _who_lines(self, width: int) -> list[Content]:
        batch = self._slice.batch
        if not batch.prefilling:
            return [Content(""), Content.styled("nobody is prefilling", DIM)]
        name = shorten(short_ids(batch.prefilling), 22, self.glyphs.ellipsis)
        line = Content.assemble((name, WORKING), (" is prefilling", MUTED))
        if not batch.num_decoding:
            return [Content(""), line]
        return [line, *self._held_lines(width)]

    def _held_lines(self, width: int) -> list[Content]:
        """Whom the prefill holds back, and for how long."""
        batch, names = self._slice.batch, self._slice.decoding
        is_over = batch.stall_ms > batch.stall_limit_ms
        held = Content.assemble(
            ("holds back ", MUTED),
            (f"{batch.num_decoding}", BRIGHT),
            (" for ", MUTED),
            (f"{batch.stall_ms:.0f} ms", WARN if is_over else BRIGHT),
            (" a step", MUTED),
        )
        if not names:
            return [held]
        return [held, Content.styled(_listed(names, width, self.glyphs.ellipsis), PLAIN)]


def _listed(names: tuple[str, ...], width: int, ellipsis: str) -> str:
    """Names as far as they fit whole, and how many more there are."""
    words = [clean(short_ids(name)) for name in names]
    room = width - len(" +999")
    num_shown = 1
    while num_shown < len(words) and cell_len(", ".join(words[: num_shown + 1])) <= room:
        num_shown += 1
    more = f" +{len(words) - num_shown}" if len(words) > num_shown else ""
    return shorten(", ".join(words[:num_shown]), room, ellipsis) + more
