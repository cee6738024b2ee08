"""A grid of cells as SVG. It asks no other server for anything, and names no font of its own."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from docs.pictures.cells import Cell, Grid, Rgb
from docs.pictures.shapes import HIGH, SHAPES, WIDE, Shape

MARGIN = 14
BASELINE = 18
FONTS = "ui-monospace,'SF Mono',Menlo,'Roboto Mono','DejaVu Sans Mono',Consolas,monospace"
Run = tuple[int, int, list[Cell]]


def to_svg(grid: Grid, title: str) -> str:
    """The picture as text.

    Args:
        grid: What is shown.
        title: Said to those who cannot see it.
    """
    columns, lines = grid.size
    wide, high = columns * WIDE + 2 * MARGIN, lines * HIGH + 2 * MARGIN
    paper = grid.ground
    grounds, inks = [], []
    for row, line in enumerate(grid.lines):
        grounds += list(_grounds(row, line, paper))
        inks += list(_inks(row, line))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{wide}" height="{high}" rx="10" fill="{_hex(paper)}"/>',
            f'<g transform="translate({MARGIN} {MARGIN})" font-family="{FONTS}" font-size="20"'
            ' xml:space="preserve">',
            *grounds,
            *inks,
            "</g>",
            "</svg>\n",
        ]
    )


def _grounds(row: int, line: tuple[tuple[int, Cell], ...], paper: Rgb) -> Iterator[str]:
    for ground, group in groupby(line, key=lambda placed: placed[1].ground):
        placed = list(group)
        if ground != paper:
            first, last = placed[0], placed[-1]
            num_cells = last[0] + last[1].width - first[0]
            yield (
                f'<rect x="{first[0] * WIDE}" y="{row * HIGH}" width="{num_cells * WIDE}"'
                f' height="{HIGH}" fill="{_hex(ground)}"/>'
            )


def _inks(row: int, line: tuple[tuple[int, Cell], ...]) -> Iterator[str]:
    for run in _runs(line):
        column, num_cells, cells = run
        if all(cell.text.isspace() and not cell.is_underlined for cell in cells):
            continue
        shapes = SHAPES.get(cells[0].text)
        if shapes is None:
            yield _text(row, run)
        else:
            x, y, ink = column * WIDE, row * HIGH, _hex(cells[0].ink)
            for shape in shapes:
                yield from _outline(shape, x, y, num_cells, ink)


def _runs(line: tuple[tuple[int, Cell], ...]) -> Iterator[Run]:
    """Neighbours that are one element: text of one style, or a row of the same mark."""

    def kind(placed: tuple[int, Cell]) -> tuple[object, ...]:
        cell = placed[1]
        mark = cell.text if cell.text in SHAPES else ""
        if not mark and cell.text.isspace():
            return ("space", cell.is_underlined)
        return (mark, cell.ink, cell.is_bold, cell.is_underlined)

    for _, group in groupby(line, key=kind):
        placed = list(group)
        num_cells = placed[-1][0] + placed[-1][1].width - placed[0][0]
        yield placed[0][0], num_cells, [cell for _, cell in placed]


def _text(row: int, run: Run) -> str:
    column, num_cells, cells = run
    first = cells[0]
    text = escape("".join(cell.text for cell in cells))
    bold = ' font-weight="bold"' if first.is_bold else ""
    line = ' text-decoration="underline"' if first.is_underlined else ""
    return (
        f'<text x="{column * WIDE}" y="{row * HIGH + BASELINE}" textLength="{num_cells * WIDE}"'
        f' fill="{_hex(first.ink)}"{bold}{line}>{text}</text>'
    )


def _outline(shape: Shape, x: int, y: int, num_cells: int, ink: str) -> Iterator[str]:
    faint = f' fill-opacity="{shape.opacity}"' if shape.opacity < 1 else ""
    wide = WIDE * num_cells if shape.stretches else WIDE
    scale = wide / WIDE
    for at in range(1 if shape.stretches else num_cells):
        places = " ".join(
            f"{_short(x + at * WIDE + px * scale)},{_short(y + py)}" for px, py in shape.points
        )
        yield f'<polygon points="{places}" fill="{ink}"{faint}/>'


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _hex(rgb: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
