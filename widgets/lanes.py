"""One agent as one line: the columns of the agents table and how they share the width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len

from engine.snapshot import AgentRow, AgentStatus
from styles.tokens import AGENT_ROLE, BRAND, BRIGHT, DIM, DISK, GOOD, MUTED, PLAIN, WARN, Glyphs
from widgets.bars import Part, bar, chart_parts
from widgets.format import (
    context_limit,
    duration,
    fit,
    percent,
    rate,
    seconds,
    short_bytes,
    short_count,
    short_ids,
    shorten,
)
from widgets.recent_rates import Rates

LONG_WAIT_S = 1.0
HELD = (
    AgentStatus.QUEUED,
    AgentStatus.TOOL_WAIT,
    AgentStatus.IDLE,
    AgentStatus.WARM,
    AgentStatus.COLD,
)
"""What a paused agent may be; a step after it was paused it is no other."""
LOW_HIT_RATIO = 0.5
NEARLY_FULL_CONTEXT = 0.9
GAP = "  "
FIGURE_CELLS = 9
GROWS_FIRST = ("agent", "miss")
RECENT = "recent"
"""The column of recent rates, which are not in a row."""

CellParts = list[Part]
Draw = Callable[[AgentRow, int, Glyphs], CellParts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table.

    Attributes:
        key: Its name in messages and sorting.
        title: Its heading.
        draw: Makes the cell's parts, exactly as wide as it is told.
        width: Least width in cells.
        max_width: Width it may grow to when there is room.
        from_width: The table width from which on it is shown.
        is_right: Whether it is aligned to the right.
    """

    key: str
    title: str
    draw: Draw
    width: int
    max_width: int = 0
    from_width: int = 0
    is_right: bool = False


Layout = tuple[tuple[Column, int], ...]
"""Columns with their widths."""


def layout_for(width: int) -> Layout:
    """The columns that fit ``width`` cells, spare room shared among those that may grow."""
    columns = [column for column in COLUMNS if width >= column.from_width]
    widths = {column.key: column.width for column in columns}
    spare = width - sum(widths.values()) - len(GAP) * (len(columns) - 1)
    for step in (1, 2):  # first up to half of what each may grow, so that none takes all
        for column in sorted(columns, key=lambda column: column.key not in GROWS_FIRST):
            limit = column.width + (column.max_width - column.width) * step // 2
            grown = min(max(0, limit - widths[column.key]), max(0, spare))
            widths[column.key] += grown
            spare -= grown
    if spare < 0:
        widths["agent"] = max(4, widths["agent"] + spare)
    return tuple((column, widths[column.key]) for column in columns)


def lane(row: AgentRow, layout: Layout, glyphs: Glyphs, recent: Rates = ()) -> tuple[Part, ...]:
    """One agent's line as parts.

    Args:
        row: The agent.
        layout: The columns.
        glyphs: Marks.
        recent: Its rates of the last seconds, oldest first.
    """
    parts: list[Part] = []
    for column, width in layout:
        if parts:
            parts.append((GAP, ""))
        if column.key == RECENT:
            parts += chart_parts(recent, width, GOOD, glyphs)
        else:
            parts += column.draw(row, width, glyphs)
    return tuple(parts)


def headings(layout: Layout, sorted_by: str, glyphs: Glyphs) -> tuple[tuple[str, Part], ...]:
    """Each column's key and heading, the sorted one marked."""
    cells: list[tuple[str, Part]] = []
    for column, width in layout:
        is_sorted = column.key == sorted_by
        title = f"{column.title}{glyphs.down}" if is_sorted else column.title
        text = f"{title:>{width}}" if column.is_right else f"{title:<{width}}"
        cells.append((column.key, (text[:width], BRIGHT if is_sorted else MUTED)))
    return tuple(cells)


def column_at(layout: Layout, x: int) -> str | None:
    """The key of the column at cell ``x``; None in a gap."""
    starts = [0]
    for _, width in layout:
        starts.append(starts[-1] + width + len(GAP))
    for (column, width), (start, _) in zip(layout, pairwise(starts), strict=True):
        if start <= x < start + width:
            return column.key
    return None


def _agent(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    name_role = DIM if row.status is AgentStatus.COLD else BRIGHT
    mark = glyphs.pinned if row.pinned else " "
    rank = (glyphs.up if row.priority > 0 else glyphs.down) if row.priority else " "
    return [
        (mark, BRAND),
        (rank, PLAIN),
        (fit(short_ids(row.title), width - 2, glyphs.ellipsis), name_role),
    ]


def state_words(row: AgentRow) -> tuple[str, str]:
    """An agent's state in a word, and its number (progress, ETA or how long)."""
    if row.paused and row.status in HELD:
        return "paused", seconds(row.wait_s) if row.wait_s else ""
    match row.status:
        case AgentStatus.PREFILLING:
            eta = f" {seconds(row.eta_s)}" if row.eta_s is not None else ""
            return row.status.value, f"{percent(row.prefill_progress):>4}{eta}"
        case AgentStatus.QUEUED if row.eta_s is not None:
            return "awaits model", seconds(row.eta_s)
        case AgentStatus.QUEUED:
            return row.status.value, seconds(row.wait_s)
        case AgentStatus.TOOL_WAIT | AgentStatus.IDLE:
            return row.status.value, duration(row.idle_s)
        case AgentStatus.COLD:
            return "no cache", ""
        case AgentStatus.WARM:
            return "on disk", duration(row.idle_s)
        case AgentStatus.RESTORING:
            eta = f" {seconds(row.eta_s)}" if row.eta_s is not None else ""
            num_tokens = row.num_restoring_tokens
            return row.status.value, f"{short_count(num_tokens)}{eta}" if num_tokens else ""
    return row.status.value, f"{row.num_generated_tokens} tok"


def _state(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    role = AGENT_ROLE[row.status]
    is_held = row.paused and row.status in HELD
    is_served = row.eta_s is None
    if row.status is AgentStatus.QUEUED and row.wait_s > LONG_WAIT_S and is_served and not is_held:
        role = WARN
    word, number = state_words(row)
    mark = glyphs.paused if is_held else glyphs.agent[row.status]
    head = f"{mark} {word}"
    return [(head, role), (f"{number:>{max(1, width - len(head))}}"[: width - len(head)], PLAIN)]


def _context(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    figure = f"{short_count(row.num_context_tokens)}/{context_limit(row.max_context_tokens)}"
    bar_width = max(1, width - FIGURE_CELLS - 1)
    limit = row.max_context_tokens
    ratio = row.num_context_tokens / limit if limit else 0.0
    is_full = ratio >= NEARLY_FULL_CONTEXT and row.status is not AgentStatus.COLD
    role = WARN if is_full else _bar_role(row)
    return [
        (f"{figure:>{FIGURE_CELLS}}", BRIGHT if row.num_context_tokens else DIM),
        (" ", ""),
        *bar(ratio, bar_width, role, glyphs),
    ]


def _bar_role(row: AgentRow) -> str:
    return MUTED if row.status is AgentStatus.IDLE else AGENT_ROLE[row.status]


def _figure(text: str, width: int, role: str) -> CellParts:
    is_nothing = text in ("-", "0", "0%")
    return [(f"{text:>{width}}", DIM if is_nothing else role)]


def _hot(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    return _figure(short_bytes(row.hot_bytes) if row.hot_bytes else "-", width, BRIGHT)


def _warm(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    return _figure(short_bytes(row.warm_bytes) if row.warm_bytes else "-", width, PLAIN)


def _shared(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    ratio = row.shared_bytes / row.hot_bytes if row.hot_bytes else None
    return _figure(percent(ratio), width, PLAIN)


def _hit(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    ratio = row.hit_ratio
    is_low = ratio is not None and ratio < LOW_HIT_RATIO and row.num_turns > 0
    figure = _figure(percent(ratio), width - 1, WARN if is_low else PLAIN)
    mark = glyphs.agent[AgentStatus.WARM] if row.num_restored_tokens else " "
    return [*figure, (mark, DISK)]


def _rate(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    return _figure(rate(row.decode_tok_s), width, GOOD)


def _nothing(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    return [(" " * width, "")]


def _ttft(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    return _figure(seconds(row.ttft_s), width, BRIGHT)


def _miss(row: AgentRow, width: int, glyphs: Glyphs) -> CellParts:
    if row.num_restoring_tokens:
        words = f"reading {row.num_restoring_tokens:,} tokens from disk"
        if cell_len(words) > width:
            words = f"reading {short_count(row.num_restoring_tokens)}"
        return [(fit(words, width, glyphs.ellipsis), DISK)]
    miss = row.miss
    if not miss.is_miss:
        return [(fit("-", width), DIM)]
    if cell_len(miss.words) <= width or not miss.num_lost_tokens:
        return [(fit(miss.words, width, glyphs.ellipsis), MUTED)]
    # The number is what a narrow column must not cut.
    figure = f" +{short_count(miss.num_lost_tokens)}"
    label = shorten(miss.label, max(1, width - len(figure)), glyphs.ellipsis)
    return [(fit(label + figure, width, glyphs.ellipsis), MUTED)]


COLUMNS: tuple[Column, ...] = (
    Column(key="agent", title="  agent", draw=_agent, width=17, max_width=30),
    Column(key="state", title="state", draw=_state, width=22, max_width=24),
    Column(key="context", title="  context", draw=_context, width=15, max_width=30),
    Column(key="hot", title="hot", draw=_hot, width=4, from_width=84, is_right=True),
    Column(key="warm", title="warm", draw=_warm, width=4, from_width=112, is_right=True),
    Column(key="shared", title="shared", draw=_shared, width=6, from_width=100, is_right=True),
    Column(key="hit", title="hit ", draw=_hit, width=5, from_width=84, is_right=True),
    Column(key="rate", title="tok/s", draw=_rate, width=5, from_width=84, is_right=True),
    Column(key=RECENT, title="recent", draw=_nothing, width=8, max_width=24, from_width=124),
    Column(key="ttft", title="ttft", draw=_ttft, width=5, is_right=True),
    Column(key="miss", title="last miss", draw=_miss, width=13, max_width=80, from_width=110),
)
