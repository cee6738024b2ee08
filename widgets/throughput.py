"""Throughput: rates now and their history, time to first token, and what the cache saved."""

from __future__ import annotations

from dataclasses import dataclass, field

from textual.content import Content

from engine.snapshot import ThroughputRow
from styles.tokens import BRIGHT, DIM, DISK, GOOD, MUTED, WARN, WORKING
from widgets.bars import chart, stacked
from widgets.format import duration, percent, rate, seconds, short_count
from widgets.history import Trend
from widgets.pane import Pane

LABEL_CELLS = 9
TEXT_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputSlice:
    """Rates now and chart columns."""

    now: ThroughputRow = field(default_factory=ThroughputRow)
    trend: Trend = field(default_factory=Trend)


class ThroughputPane(Pane[ThroughputSlice]):
    """Two charts over three lines of figures; the charts take what height there is."""

    def __init__(self) -> None:
        super().__init__(ThroughputSlice(), "throughput", widget_id="throughput")

    def on_resize(self) -> None:
        """More columns go further back."""
        self._name_span()

    def slice_changed(self) -> None:
        """Draws, and says in the border how far back the charts go."""
        self._name_span()
        self.refresh()

    def _name_span(self) -> None:
        span_s = self._slice.trend.column_s * max(1, self.content_size.width)
        subtitle = f"last {duration(span_s)}"
        if subtitle != self.border_subtitle:
            self.border_subtitle = subtitle

    def draw(self, width: int, height: int) -> list[Content]:
        """Charts on top, figures below."""
        now, trend = self._slice.now, self._slice.trend
        room = max(2, height - TEXT_LINES)
        decode_height = -(-room // 2)
        prefill_height = room - decode_height
        return [
            self._rate_line("decode", now.decode_tok_s, trend.decode_tok_s, width),
            *chart(trend.decode_tok_s, width, decode_height, GOOD, self.glyphs),
            self._rate_line("prefill", now.prefill_tok_s, trend.prefill_tok_s, width),
            *chart(trend.prefill_tok_s, width, prefill_height, WORKING, self.glyphs),
            self._ttft_line(width),
            self._reused_line(width),
            self._totals_line(),
        ]

    def _rate_line(self, name: str, now: float, past: tuple[float, ...], width: int) -> Content:
        left = Content.assemble(
            (f"{name:<{LABEL_CELLS}}", MUTED),
            (f"{rate(now):>5}", BRIGHT if now > 0 else DIM),
            (" tok/s", MUTED),
        )
        peak = max(past[-width:], default=0.0)
        right = Content.styled(f"peak {rate(peak):>5}", MUTED)
        gap = width - left.cell_length - right.cell_length
        return Content.assemble(left, " " * gap, right) if gap > 0 else left

    def _ttft_line(self, width: int) -> Content:
        now = self._slice.now
        figures = Content.assemble(
            (f"{'ttft':<{LABEL_CELLS}}", MUTED),
            ("p50 ", MUTED),
            (f"{seconds(now.ttft_p50_s):>5}", BRIGHT),
            ("  p95 ", MUTED),
            (f"{seconds(now.ttft_p95_s):>5}", BRIGHT),
        )
        room = width - figures.cell_length - 2
        if room < 8:
            return figures
        spark = chart(self._slice.trend.ttft_p50_s, room, 1, BRIGHT, self.glyphs, strength=40)[0]
        return Content.assemble(figures, "  ", spark)

    def _reused_line(self, width: int) -> Content:
        now = self._slice.now
        total = now.num_prompt_tokens
        hot = now.num_cached_tokens - now.num_restored_tokens
        ratios = [count / total if total else None for count in (hot, now.num_restored_tokens)]
        figures = Content.assemble(
            (f"{'reused':<{LABEL_CELLS}}", MUTED),
            ("hot ", MUTED),
            (f"{percent(ratios[0]):>5}", BRIGHT if total else DIM),
            ("  disk", MUTED),
            (f"{percent(ratios[1]):>5}", BRIGHT if total else DIM),
        )
        room = width - figures.cell_length - 2
        if room < 8 or not total:
            return figures
        rest = total - now.num_cached_tokens - now.num_lost_tokens
        marks = self.glyphs.origins
        parts = stacked(
            [
                (hot, marks[0], WORKING),
                (now.num_restored_tokens, marks[1], DISK),
                (now.num_lost_tokens, marks[2], WARN),
                (rest, marks[3], MUTED),
            ],
            room,
        )
        return Content.assemble(figures, "  ", parts)

    def _totals_line(self) -> Content:
        now = self._slice.now
        return Content.assemble(
            (f"{'so far':<{LABEL_CELLS}}", MUTED),
            (f"{short_count(now.num_turns):>5}", BRIGHT),
            (" turns  ", MUTED),
            (short_count(now.num_prompt_tokens), BRIGHT),
            (" read  ", MUTED),
            (short_count(now.num_generated_tokens), BRIGHT),
            (" written", MUTED),
        )
