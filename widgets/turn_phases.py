"""Where the time of a turn went, as parts of a bar and as lines."""

from __future__ import annotations

from textual.content import Content

from engine.snapshot import TurnTimes
from styles.tokens import BRIGHT, DIM, DISK, GOOD, MUTED, PLAIN, WARN, WORKING, Glyphs
from widgets.bars import Part, bar
from widgets.format import percent, seconds

PHASE_WORDS = ("queue", "restore", "prefill", "decode")
PHASE_ROLES = (WARN, DISK, WORKING, GOOD)
LINE_CELLS = 22
"""A line of one phase without its bar."""


def _spent_s(times: TurnTimes) -> tuple[float, float, float, float]:
    return times.queue_s, times.restore_s, times.prefill_s, times.decode_s


def phase_bar(times: TurnTimes, longest_s: float, width: int, glyphs: Glyphs) -> list[Part]:
    """One bar of all phases, exactly ``width`` cells, as long as the turn beside the longest.

    Args:
        times: The turn.
        longest_s: What the whole width stands for.
        width: Cells.
        glyphs: For the phases.
    """
    if longest_s <= 0 or width <= 0:
        return [(" " * max(0, width), "")]
    parts: list[Part] = []
    done_s, drawn = 0.0, 0
    for spent_s, mark, role in zip(_spent_s(times), glyphs.phases, PHASE_ROLES, strict=True):
        done_s += spent_s
        end = min(width, round(done_s / longest_s * width))
        if end > drawn:
            parts.append((mark * (end - drawn), role))
            drawn = end
    if not drawn and times.total_s > 0:
        parts.append((glyphs.separator, MUTED))
        drawn = 1
    return [*parts, (" " * (width - drawn), "")]


def phase_lines(times: TurnTimes, width: int, glyphs: Glyphs) -> list[Content]:
    """A line for each phase: how long, which share, and a bar."""
    total_s = times.total_s
    lines = []
    for word, spent_s, mark, role in zip(
        PHASE_WORDS, _spent_s(times), glyphs.phases, PHASE_ROLES, strict=True
    ):
        share = spent_s / total_s if total_s > 0 else 0.0
        lines.append(
            Content.assemble(
                (f"{mark} ", role),
                (f"{word:<8}", MUTED),
                (f"{seconds(spent_s) if spent_s > 0 else '-':>6}", BRIGHT if spent_s else DIM),
                (f"{percent(share) if spent_s > 0 else '':>5} ", PLAIN),
                *bar(share, max(0, width - LINE_CELLS), role, glyphs),
            )
        )
    return lines
