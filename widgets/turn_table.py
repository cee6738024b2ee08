"""An agent's last turns, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo

from textual.content import Content

from engine.snapshot import AgentStatus, TurnRow
from styles.tokens import BRIGHT, DIM, MUTED, PLAIN, Glyphs
from widgets.format import clock_time, fit, percent, seconds, short_count

FIGURE_CELLS = 39
"""All columns but the last."""


def turn_lines(
    turns: Sequence[TurnRow], width: int, height: int, glyphs: Glyphs, zone: tzinfo | None
) -> list[Content]:
    """Headings and one line per turn, as many as fit.

    Args:
        turns: Oldest first.
        width: Cells.
        height: Lines, the headings included.
        glyphs: For the mark of turns that a fork can start from.
        zone: Of the times; None is the machine's own.
    """
    if not turns or height < 2:
        return []
    room = max(0, width - FIGURE_CELLS)
    headings = f"  {'turn':>4}  {'ended':<8}  {'prompt':>6}  {'hit':>4}  {'ttft':>5}  "
    shown = list(turns)[::-1][: height - 1]
    return [
        Content.styled(headings + fit("why tokens were lost", room, glyphs.ellipsis), MUTED),
        *(_line(turn, room, glyphs, zone) for turn in shown),
    ]


def _line(turn: TurnRow, room: int, glyphs: Glyphs, zone: tzinfo | None) -> Content:
    hit = turn.num_cached_tokens / turn.num_prompt_tokens if turn.num_prompt_tokens else None
    status = AgentStatus.IDLE if turn.resumable else AgentStatus.COLD
    return Content.assemble(
        (f"{glyphs.agent[status]} ", PLAIN if turn.resumable else DIM),
        (f"{turn.number:>4}  ", BRIGHT),
        (f"{clock_time(turn.ended_time, zone)}  ", MUTED),
        (f"{short_count(turn.num_prompt_tokens):>6}  ", PLAIN),
        (f"{percent(hit):>4}  ", PLAIN),
        (f"{seconds(turn.ttft_s):>5}  ", PLAIN),
        (fit(turn.miss or "-", room, glyphs.ellipsis), MUTED if turn.miss else DIM),
    )
