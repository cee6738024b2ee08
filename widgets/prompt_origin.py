"""Where the tokens of an agent's last prompt came from, and why known ones were lost."""

from __future__ import annotations

from textual.content import Content

from engine.snapshot import MissRow
from styles.tokens import BRIGHT, DIM, DISK, MUTED, PLAIN, WARN, WORKING, Glyphs
from widgets.bars import stacked
from widgets.format import clean, percent, seconds

COUNT_CELLS = 23
"""A mark, a word, a count and a share."""
WORD_CELLS = 9


def origin_lines(miss: MissRow, width: int, glyphs: Glyphs) -> list[Content]:
    """A bar of the whole prompt, and its four kinds of tokens in numbers.

    Args:
        miss: The prompt; it has at least one token.
        width: Cells.
        glyphs: For the bar.
    """
    kinds = tuple(
        zip(
            ("in memory", "from disk", "lost", "new"),
            (
                miss.num_hot_tokens,
                miss.num_warm_tokens,
                miss.num_lost_tokens,
                miss.num_new_tokens,
            ),
            glyphs.origins,
            (WORKING, DISK, WARN, MUTED),
            strict=True,
        )
    )
    counts = [
        _count(word, amount, mark, role, miss.num_prompt_tokens)
        for word, amount, mark, role in kinds
    ]
    bar = stacked([(amount, mark, role) for _, amount, mark, role in kinds], width)
    if width >= 2 * COUNT_CELLS + 2:
        gap = " " * (width // 2 - COUNT_CELLS)
        pairs = ((counts[0], counts[2]), (counts[1], counts[3]))
        return [bar, *(Content.assemble(left, gap, right) for left, right in pairs)]
    return [bar, *counts]


def _count(word: str, amount: int, mark: str, role: str, total: int) -> Content:
    figure = BRIGHT if amount else DIM
    return Content.assemble(
        (f"{mark} ", role),
        (f"{word:<{WORD_CELLS}}", MUTED),
        (f"{amount:>7,}", figure),
        (f"{percent(amount / total):>5}", PLAIN if amount else DIM),
    )


def loss_lines(miss: MissRow, width: int) -> list[Content]:
    """Why tokens were lost, what it cost, and where the change lies, each where there is one."""
    if not miss.is_miss:
        return [Content.styled(miss.words, MUTED)]
    facts = [(f"{miss.cause.value}", WARN)]
    if miss.num_lost_tokens:
        facts.append((f": {miss.num_lost_tokens:,} tokens again", WARN))
    if miss.lost_s is not None:
        facts.append((f", {seconds(miss.lost_s)}", WARN))
    lines = Content.assemble(*facts).wrap(max(8, width))
    if miss.changed_token is not None:
        part = f"in {clean(miss.part)}, " if miss.part else ""
        where = f"{part}from token {miss.changed_token:,} on"
        lines += Content.styled(where, PLAIN).wrap(max(8, width))
    return list(lines)
