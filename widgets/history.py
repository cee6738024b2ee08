"""What the charts remember: one sample a second, up to an hour."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, pairwise

from engine.snapshot import ThroughputRow

MAX_SAMPLES = 3600
MAX_COLUMNS = 240
SPANS_S = (60, 600, 3600)
"""How far back the charts may go."""
SHORT = 0.1
"""So much of a second a column may be short of its share of the span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Chart columns, oldest first.

    Attributes:
        span_s: How far back they were asked to go.
        column_s: Seconds per column.
        column_cells: Cells per column.
        decode_tok_s: Mean decode rate of each column.
        prefill_tok_s: Mean prefill rate.
        ttft_p50_s: Mean of the median time to first token.
        pool_use: Mean share of the pool that was held, 0-1.
    """

    span_s: int = SPANS_S[0]
    column_s: int = 1
    column_cells: int = 1
    decode_tok_s: tuple[float, ...] = ()
    prefill_tok_s: tuple[float, ...] = ()
    ttft_p50_s: tuple[float, ...] = ()
    pool_use: tuple[float, ...] = ()


class History:
    """A ring of samples. Columns are cut at fixed sample numbers, so a drawn column stays put."""

    def __init__(self) -> None:
        self._samples: deque[ThroughputRow] = deque(maxlen=MAX_SAMPLES)
        self._num_added = 0

    def add(self, sample: ThroughputRow) -> None:
        """Adds the sample of one second."""
        self._samples.append(sample)
        self._num_added += 1

    def trend(self, span_s: int, num_cells: int) -> Trend:
        """The newest columns of a chart.

        Args:
            span_s: How far back it is to go. It goes further where there is room for more samples.
            num_cells: Its width.
        """
        column_cells = max(1, num_cells // span_s)
        num_columns = max(1, min(-(-num_cells // column_cells), MAX_COLUMNS))
        column_s = max(1, math.ceil(span_s / num_columns - SHORT))
        first = self._num_added - len(self._samples)
        start = max(first, (self._num_added // column_s - num_columns + 1) * column_s)
        samples = list(islice(self._samples, start - first, None))
        cuts = _cuts(start, self._num_added, column_s)

        def means(value: Callable[[ThroughputRow], float]) -> tuple[float, ...]:
            values = [value(sample) for sample in samples]
            return tuple(sum(values[a:b]) / (b - a) for a, b in cuts)

        return Trend(
            span_s=span_s,
            column_s=column_s,
            column_cells=column_cells,
            decode_tok_s=means(lambda sample: sample.decode_tok_s),
            prefill_tok_s=means(lambda sample: sample.prefill_tok_s),
            ttft_p50_s=means(lambda sample: sample.ttft_p50_s or 0.0),
            pool_use=means(lambda sample: sample.pool_use),
        )


def _cuts(start: int, end: int, size: int) -> list[tuple[int, int]]:
    """Ranges relative to ``start`` that end at multiples of ``size``."""
    edges = [start, *range((start // size + 1) * size, end, size), end]
    return [(a - start, b - start) for a, b in pairwise(edges) if b > a]
