"""Throughput: rates now and their history, time to first token, and what the cache saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from textual.content import Content
from textual.message import Message

from engine.snapshot import ThroughputRow
from styles.tokens import BRIGHT, DIM, DISK, GOOD, MUTED, WARN, WORKING
from widgets.bars import chart, stacked
from widgets.format import duration, percent, rate, seconds, short_count
from widgets.history import SPANS_S, Trend
from widgets.pane import Pane

LABEL_CELLS = 9
TEXT_LINES = 6
LEAST_CHART_LINES = 2
LEAST_SPARK_CELLS = 8
FAINT = 40
"""Strength of charts that are not about speed, in percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputSlice:
    """Rates now and chart columns."""

    now: ThroughputRow = field(default_factory=ThroughputRow)
    trend: Trend = field(default_factory=Trend)


class ThroughputPane(Pane[ThroughputSlice]):
    """Charts over lines of figures; the charts take what height there is.

    Prefill and decode always have a chart each. Time to first token and the use of the pool have
    one beside their figures, or one of their own where there is height for four.
    """

    def __init__(self) -> None:
        super().__init__(ThroughputSlice(), "throughput", widget_id="throughput")

    @property
    def chart_cells(self) -> int:
        """Width of the charts; 0 while the pane is hidden."""
        return self.content_size.width if self.is_on_screen else 0

    class Resized(Message):
        """There is room for other columns now."""

    def on_resize(self) -> None:
        """Asks for columns that fit."""
        self.post_message(self.Resized())

    def on_mount(self) -> None:
        """Says how far back the charts go."""
        self._name_span()

    def slice_changed(self) -> None:
        """Draws, and says in the border how far back the charts go."""
        self._name_span()
        self.refresh_changed()

    def _name_span(self) -> None:
        chosen = self._slice.trend.span_s
        words = [
            f"[b $foreground]({_span_word(span_s)})[/]"
            if span_s == chosen
            else f" {_span_word(span_s)} "
            for span_s in SPANS_S
        ]
        self.name_border("throughput", "".join(words))

    def draw(self, width: int, height: int) -> list[Content]:
        """Charts on top, figures below."""
        room = max(2 * LEAST_CHART_LINES - 2, height - TEXT_LINES)
        if room >= 4 * LEAST_CHART_LINES:
            heights = [room // 4 + (at < room % 4) for at in range(4)]
        else:
            heights = [-(-room // 2), room // 2, 0, 0]
        return [
            *self._speeds(width, heights),
            *self._waits(width, heights[2]),
            *self._pool(width, heights[3]),
            self._reused_line(width),
            self._totals_line(),
        ]

    def _speeds(self, width: int, heights: Sequence[int]) -> list[Content]:
        now, trend = self._slice.now, self._slice.trend
        return [
            self._rate_line("decode", now.decode_tok_s, trend.decode_tok_s, width),
            *self._chart(trend.decode_tok_s, width, heights[0], GOOD),
            self._rate_line("prefill", now.prefill_tok_s, trend.prefill_tok_s, width),
            *self._chart(trend.prefill_tok_s, width, heights[1], WORKING),
        ]

    def _chart(
        self,
        samples: Sequence[float],
        width: int,
        height: int,
        role: str,
        *,
        strength: int = 100,
        top: float | None = None,
    ) -> list[Content]:
        cells = self._slice.trend.column_cells
        wide = [sample for sample in samples for _ in range(cells)]
        return chart(wide, width, height, role, self.glyphs, strength, top)

    def _rate_line(self, name: str, now: float, past: tuple[float, ...], width: int) -> Content:
        left = Content.assemble(
            (f"{name:<{LABEL_CELLS}}", MUTED),
            (f"{rate(now):>5}", BRIGHT if now > 0 else DIM),
            (" tok/s", MUTED),
        )
        peak = max(past, default=0.0)
        right = Content.styled(f"peak {rate(peak):>5}", MUTED)
        gap = width - left.cell_length - right.cell_length
        return Content.assemble(left, " " * gap, right) if gap > 0 else left

    def _waits(self, width: int, height: int) -> list[Content]:
        now = self._slice.now
        figures = Content.assemble(
            (f"{'ttft':<{LABEL_CELLS}}", MUTED),
            ("p50 ", MUTED),
            (f"{seconds(now.ttft_p50_s):>5}", BRIGHT),
            ("  p95 ", MUTED),
            (f"{seconds(now.ttft_p95_s):>5}", BRIGHT),
        )
        return self._with_chart(figures, self._slice.trend.ttft_p50_s, width, height, BRIGHT)

    def _pool(self, width: int, height: int) -> list[Content]:
        use = self._slice.now.pool_use
        figures = Content.assemble(
            (f"{'pool':<{LABEL_CELLS}}", MUTED),
            ("held", MUTED),
            (f"{percent(use):>5}", BRIGHT if use else DIM),
            (" " * 11, ""),
        )
        trend = self._slice.trend.pool_use
        return self._with_chart(figures, trend, width, height, BRIGHT, top=1.0)

    def _with_chart(
        self,
        figures: Content,
        samples: Sequence[float],
        width: int,
        height: int,
        role: str,
        top: float | None = None,
    ) -> list[Content]:
        """Figures, with a chart under them, or beside them where ``height`` is 0."""
        if height:
            return [figures, *self._chart(samples, width, height, role, strength=FAINT, top=top)]
        room = width - figures.cell_length - 2
        if room < LEAST_SPARK_CELLS:
            return [figures]
        spark = self._chart(samples, room, 1, role, strength=FAINT, top=top)[0]
        return [Content.assemble(figures, "  ", spark)]

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
        if room < LEAST_SPARK_CELLS or not total:
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


def _span_word(span_s: int) -> str:
    return f"{span_s // 3600}h" if span_s >= 3600 else duration(span_s)
