"""What a terminal shows: a grid of cells, taken from a screen of the dashboard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.app import App

Rgb = tuple[int, int, int]
FOREGROUND: Rgb = (220, 223, 228)
BACKGROUND: Rgb = (16, 18, 22)
_SIXTEEN: tuple[Rgb, ...] = (
    (28, 32, 39),
    (255, 107, 107),
    (124, 217, 146),
    (234, 197, 102),
    (108, 178, 247),
    (180, 148, 240),
    (95, 211, 198),
    (220, 223, 228),
    (90, 98, 112),
    (255, 140, 140),
    (150, 230, 170),
    (245, 215, 130),
    (140, 200, 255),
    (200, 175, 250),
    (130, 228, 216),
    (255, 255, 255),
)
TERMINAL = TerminalTheme(BACKGROUND, FOREGROUND, list(_SIXTEEN[:8]), list(_SIXTEEN[8:]))
"""What the terminal in the pictures is set to, for the theme that takes its colours from it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One character in its place.

    Attributes:
        text: A character of one cell, or of two; then the cell after it is not in the grid.
        ink: Its colour.
        ground: The colour behind it.
        is_bold: Whether it is drawn heavy.
        is_underlined: Whether there is a line under it.
        width: Cells that it takes, 1 or 2.
    """

    text: str
    ink: Rgb
    ground: Rgb
    is_bold: bool = False
    is_underlined: bool = False
    width: int = 1


@dataclass(frozen=True, slots=True)
class Grid:
    """A whole screen.

    Attributes:
        size: Columns and lines.
        lines: The cells of each line with the columns that they begin in.
    """

    size: tuple[int, int]
    lines: tuple[tuple[tuple[int, Cell], ...], ...]

    @property
    def ground(self) -> Rgb:
        """The colour behind most of it."""
        grounds = Counter(cell.ground for line in self.lines for _, cell in line)
        return max(grounds, key=lambda ground: (grounds[ground], ground), default=BACKGROUND)


def grid_of(app: App[bool]) -> Grid:
    """What the topmost screen of a running app shows."""
    strips = app.screen._compositor.render_strips()
    lines = tuple(tuple(_placed(iter(strip))) for strip in strips)
    return Grid((app.size.width, app.size.height), lines)


def _placed(segments: Iterator[Segment]) -> Iterator[tuple[int, Cell]]:
    column = 0
    for segment in segments:
        style = segment.style or Style.null()
        for character in segment.text:
            width = cell_len(character)
            if width:
                yield column, _cell(character, style, width)
                column += width


def _cell(character: str, style: Style, width: int) -> Cell:
    ink, ground = _rgb(style.color, FOREGROUND), _rgb(style.bgcolor, BACKGROUND)
    if style.reverse:
        ink, ground = ground, ink
    if style.dim:
        ink = blend(ink, ground, 0.5)
    return Cell(character, ink, ground, bool(style.bold), bool(style.underline), width)


def _rgb(color: Color | None, otherwise: Rgb) -> Rgb:
    if color is None or color.is_default:
        return otherwise
    red, green, blue = color.get_truecolor(TERMINAL)
    return red, green, blue


def blend(ink: Rgb, ground: Rgb, share: float) -> Rgb:
    """``share`` of one colour over another."""
    mixed = [round(g + (i - g) * share) for i, g in zip(ink, ground, strict=True)]
    return mixed[0], mixed[1], mixed[2]
