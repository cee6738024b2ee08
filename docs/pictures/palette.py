"""The 256 colours that a picture file keeps: small files, and no colour with a meaning is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from PIL import Image

from docs.pictures.cells import Grid, Rgb, blend

NUM_COLOURS = 256
STEPS = (0.5, 0.25, 0.75, 0.375, 0.625, 0.125, 0.875)
"""Shares of ink at the edge of a letter, the most telling first."""


def palette_of(grids: Iterable[Grid]) -> Image.Image:
    """An image that holds the palette: every ink and ground, then the shades between them.

    Args:
        grids: All that is to be drawn with it.
    """
    pairs = Counter(
        (cell.ink, cell.ground) for grid in grids for line in grid.lines for _, cell in line
    )
    by_use = sorted(pairs, key=lambda pair: (-pairs[pair], pair))
    colours: dict[Rgb, None] = {}
    for ink, ground in by_use:
        colours |= {ground: None, ink: None}
    for share in STEPS:
        for ink, ground in by_use:
            colours[blend(ink, ground, share)] = None
    chosen = list(colours)[:NUM_COLOURS]
    image = Image.new("P", (1, 1))
    image.putpalette([level for colour in chosen for level in colour])
    return image


def with_palette(image: Image.Image, palette: Image.Image) -> Image.Image:
    """The image in the palette's colours, each pixel in the nearest."""
    return image.quantize(palette=palette, dither=Image.Dither.NONE)
