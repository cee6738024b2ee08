"""Bars and charts made of text."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from styles.tokens import TRACK, Glyphs

Part = tuple[str, str]
"""Text and its style."""

FADE = 0.6
"""How much fainter the foot of a tall chart is than its top."""


def bar(ratio: float, width: int, style: str, glyphs: Glyphs) -> list[Part]:
    """A thin bar, ``width`` cells, to half a cell; anything above zero shows."""
    ratio = min(1.0, max(0.0, ratio))
    halves = round(ratio * width * 2)
    if ratio > 0 and halves == 0:
        halves = 1
    full, half = divmod(halves, 2)
    return [
        (glyphs.bar_full * full + glyphs.bar_half * half, style),
        (glyphs.bar_empty * (width - full - half), TRACK),
    ]


def stacked(parts: Sequence[tuple[int, str, str]], width: int) -> Content:
    """A bar of several parts of one whole.

    Args:
        parts: Amount, mark and style of each part, in order.
        width: Cells.
    """
    total = sum(amount for amount, _, _ in parts)
    if total == 0 or width <= 0:
        return Content("")
    pieces: list[Part] = []
    done = drawn = 0
    for amount, mark, style in parts:
        done += amount
        end = round(done * width / total)
        if end > drawn:
            pieces.append((mark * (end - drawn), style))
            drawn = end
    return Content.assemble(*pieces)


def chart(
    samples: Sequence[float],
    width: int,
    height: int,
    style: str,
    glyphs: Glyphs,
    strength: int = 100,
    top: float | None = None,
) -> list[Content]:
    """A column chart, newest sample at the right edge, ``height`` lines.

    The scale runs from zero to ``top``, or to the largest sample shown. A column of zero keeps
    a faint base line, so that a pause is seen as a pause. Lower lines are fainter, so that peaks
    stand out.

    Args:
        samples: Oldest first.
        width: Cells.
        height: Lines.
        style: Name of a colour, without attributes.
        glyphs: For the levels.
        strength: Of the colour at the top, in percent.
        top: The value that fills the height; None takes the largest shown.
    """
    levels = glyphs.spark
    steps = len(levels)
    shown = list(samples)[-width:]
    top = max(shown, default=0.0) if top is None else top
    filled = [round(value / top * height * steps) if top > 0 else 0 for value in shown]
    filled = [max(count, int(value > 0)) for count, value in zip(filled, shown, strict=True)]
    lines = []
    for line in range(height):
        base = (height - 1 - line) * steps
        faded = f"{style} {round(strength * (1 - FADE * line / height))}%"
        lines.append(_chart_line(filled, base, width, faded, levels, is_bottom=line == height - 1))
    return lines


def _chart_line(
    filled: Sequence[int], base: int, width: int, style: str, levels: str, *, is_bottom: bool
) -> Content:
    steps = len(levels)
    pad = (levels[0] if is_bottom else " ") * (width - len(filled))
    pieces: list[Part] = [(pad, TRACK)]
    for count in filled:
        level = min(steps, max(0, count - base))
        if level:
            pieces.append((levels[level - 1], style))
        else:
            pieces.append((levels[0] if is_bottom else " ", TRACK))
    return Content.assemble(*merged(pieces))


def chart_parts(samples: Sequence[float], width: int, style: str, glyphs: Glyphs) -> list[Part]:
    """A chart of one line as parts; blank where nothing was sampled or all of it is zero."""
    if not any(samples):
        return [(" " * width, "")]
    levels, shown = glyphs.spark, list(samples)[-width:]
    top, steps = max(shown) or 1.0, len(glyphs.spark)
    text = "".join(levels[max(0, round(value / top * steps) - 1)] for value in shown)
    return [(f"{text:>{width}}", style)]


def merged(pieces: Sequence[Part]) -> list[Part]:
    """Neighbours of one style as one piece."""
    merged: list[Part] = []
    for text, style in pieces:
        if merged and merged[-1][1] == style:
            merged[-1] = (merged[-1][0] + text, style)
        elif text:
            merged.append((text, style))
    return merged
