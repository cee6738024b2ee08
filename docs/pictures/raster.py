"""A grid of cells as pixels: marks from their shapes, letters from the font of textual-serve.

That font is Roboto Mono (Apache License 2.0); it comes with a package that Stoker needs anyway, so
no font of the machine has a part in it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from docs.pictures.cells import Cell, Grid
from docs.pictures.palette import palette_of, with_palette
from docs.pictures.shapes import HIGH, SHAPES, WIDE
from docs.pictures.vector import BASELINE, MARGIN

FINE = 4
"""Shapes are drawn so many times larger, and made smaller for smooth edges."""
FONT_SIZE = 20
WEIGHTS = {False: 400, True: 700}
NO_CHARACTER = "\ufffe"


class UndrawableError(Exception):
    """The font has no such character, and there is no shape for it."""


def to_pixels(grid: Grid) -> Image.Image:
    """The picture in true colour.

    Raises:
        UndrawableError: A character cannot be drawn; the message names it.
    """
    columns, lines = grid.size
    size = (columns * WIDE + 2 * MARGIN, lines * HIGH + 2 * MARGIN)
    image = Image.new("RGB", size, grid.ground)
    for row, line in enumerate(grid.lines):
        for column, cell in line:
            _put(image, MARGIN + column * WIDE, MARGIN + row * HIGH, cell)
    return image


def _put(image: Image.Image, x: int, y: int, cell: Cell) -> None:
    wide = WIDE * cell.width
    image.paste(cell.ground, (x, y, x + wide, y + HIGH))
    if not cell.text.isspace():
        image.paste(cell.ink, (x, y), _mask(cell.text, cell.is_bold, wide))
    if cell.is_underlined:
        image.paste(cell.ink, (x, y + BASELINE + 2, x + wide, y + BASELINE + 3))


@cache
def _mask(text: str, is_bold: bool, wide: int) -> Image.Image:
    """How much ink each pixel of a cell takes, 0-255."""
    return _shape_mask(text) if text in SHAPES else _letter_mask(text, is_bold, wide)


def _shape_mask(text: str) -> Image.Image:
    large = Image.new("L", (WIDE * FINE, HIGH * FINE), 0)
    draw = ImageDraw.Draw(large)
    for shape in SHAPES[text]:
        # A polygon takes in the pixels of its far edge; half a pixel less leaves them out.
        points = [(x * FINE - 0.5, y * FINE - 0.5) for x, y in shape.points]
        draw.polygon(points, fill=round(255 * shape.opacity))
    return large.resize((WIDE, HIGH), Image.Resampling.BOX)


def _letter_mask(text: str, is_bold: bool, wide: int) -> Image.Image:
    font = _font(is_bold)
    if bytes(font.getmask(text)) == bytes(font.getmask(NO_CHARACTER)):
        raise UndrawableError(f"no shape for U+{ord(text):04X} {text!r}: add it to shapes.py")
    mask = Image.new("L", (wide, HIGH), 0)
    ImageDraw.Draw(mask).text((0, BASELINE), text, fill=255, font=font, anchor="ls")
    return mask


@cache
def _font(is_bold: bool) -> ImageFont.FreeTypeFont:
    place = files("textual_serve") / "static/fonts/RobotoMono-VariableFont_wght.ttf"
    with as_file(place) as path:
        font = ImageFont.truetype(str(path), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    font.set_variation_by_axes([WEIGHTS[is_bold]])
    return font


def save_still(grid: Grid, path: Path) -> None:
    """Writes a PNG."""
    with_palette(to_pixels(grid), palette_of([grid])).save(path, optimize=True)
