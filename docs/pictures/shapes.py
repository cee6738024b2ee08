"""The marks that a font draws badly or not at all, as shapes: lines, blocks, dots, arrows.

A cell is 12 wide and 24 high, y grows downwards. What a mark has to join its neighbours with
reaches the cell's edge, so that a chart has no seams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WIDE = 12
HIGH = 24
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """A closed outline that is filled.

    Attributes:
        points: Its corners.
        opacity: How much of the ink is on the paper, 0-1.
        stretches: Whether a row of them is one longer shape.
    """

    points: tuple[Point, ...]
    opacity: float = 1.0
    stretches: bool = False


def _box(x: float, y: float, wide: float, high: float, opacity: float = 1.0) -> Shape:
    corners = ((x, y), (x + wide, y), (x + wide, y + high), (x, y + high))
    return Shape(corners, opacity, stretches=x == 0 and wide == WIDE)


def _dashes(count: int, y: float, high: float) -> tuple[Shape, ...]:
    pitch = WIDE / count
    wide = pitch * 0.55
    return tuple(_box(pitch * at + (pitch - wide) / 2, y, wide, high) for at in range(count))


def _arc(centre: Point, radius: float, begin: float, end: float, steps: int) -> tuple[Point, ...]:
    """Points of a circle between two angles, in quarters of a turn clockwise from the right."""
    angles = [(begin + (end - begin) * at / steps) * math.pi / 2 for at in range(steps + 1)]
    return tuple(
        (round(centre[0] + radius * math.cos(a), 2), round(centre[1] + radius * math.sin(a), 2))
        for a in angles
    )


def _band(centre: Point, radius: float, begin: float, end: float, width: float) -> Shape:
    steps = max(2, round(abs(end - begin) * 6))
    outer = _arc(centre, radius + width / 2, begin, end, steps)
    inner = _arc(centre, radius - width / 2, end, begin, steps)
    return Shape(outer + inner)


def _corner(is_right: bool, is_below: bool) -> tuple[Shape, ...]:
    """A round corner whose arms go right or left, and down or up."""
    radius = 6.0
    centre = (6 + radius if is_right else 6 - radius, 12 + radius if is_below else 12 - radius)
    begin = {(True, True): 2, (False, True): 3, (False, False): 0, (True, False): 1}
    quarter = begin[is_right, is_below]
    rest = _box(5, 18, 2, 6) if is_below else _box(5, 0, 2, 6)
    return _band(centre, radius, quarter, quarter + 1, 2), rest


_MIDDLE = (6.0, 12.0)
_RADIUS = 4.6


def _disc(radius: float = _RADIUS) -> Shape:
    return Shape(_arc(_MIDDLE, radius, 0, 4, 24))


def _ring() -> Shape:
    return _band(_MIDDLE, _RADIUS - 0.75, 0, 4, 1.5)


def _dots() -> tuple[Shape, ...]:
    return tuple(_band(_MIDDLE, _RADIUS - 0.75, at, at + 0.28, 1.5) for at in _eighths())


def _eighths() -> tuple[float, ...]:
    return tuple(at * 0.5 + 0.11 for at in range(8))


def _diamond(reach: float) -> tuple[Point, ...]:
    x, y = _MIDDLE
    return ((x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y))


def _hollow_diamond(reach: float, width: float) -> Shape:
    outer, inner = _diamond(reach), _diamond(reach - width)
    return Shape((*outer, outer[0], inner[0], *reversed(inner)))


def _cross() -> tuple[Shape, ...]:
    a, b, w = 1.6, 10.4, 1.3
    down = ((a + w, 7.6 - w), (b + w, 16.4 - w), (b - w, 16.4 + w), (a - w, 7.6 + w))
    up = ((b - w, 7.6 - w), (b + w, 7.6 + w), (a + w, 16.4 + w), (a - w, 16.4 - w))
    return Shape(down), Shape(up)


def _arrow(turn: int) -> tuple[Shape, ...]:
    """An arrow that points right, down, left or up."""
    cos, sin = round(math.cos(turn * math.pi / 2)), round(math.sin(turn * math.pi / 2))

    def turned(points: tuple[Point, ...]) -> Shape:
        return Shape(tuple((6 + x * cos - y * sin, 12 + x * sin + y * cos) for x, y in points))

    shaft = ((-4.6, -0.8), (1.6, -0.8), (1.6, 0.8), (-4.6, 0.8))
    return turned(shaft), turned(((1.0, -3.6), (5.2, 0.0), (1.0, 3.6)))


SHAPES: dict[str, tuple[Shape, ...]] = {
    "─": (_box(0, 11, 12, 2),),
    "━": (_box(0, 10, 12, 4),),
    "╸": (_box(0, 10, 6, 4),),
    "│": (_box(5, 0, 2, 24),),
    "┈": _dashes(4, 11, 2),
    "┉": _dashes(3, 10, 4),
    "╌": _dashes(2, 11, 2),
    "╍": _dashes(2, 10, 4),
    "╭": _corner(True, True),
    "╮": _corner(False, True),
    "╰": _corner(True, False),
    "╯": _corner(False, False),
    "█": (_box(0, 0, 12, 24),),
    "▌": (_box(0, 0, 6, 24),),
    "░": (_box(0, 0, 12, 24, 0.25),),
    "▒": (_box(0, 0, 12, 24, 0.5),),
    "▓": (_box(0, 0, 12, 24, 0.75),),
    "●": (_disc(),),
    "○": (_ring(),),
    "◌": _dots(),
    "◐": (_ring(), Shape(_arc(_MIDDLE, _RADIUS, 1, 3, 12))),
    "◔": (_ring(), Shape((_MIDDLE, *_arc(_MIDDLE, _RADIUS, 3, 4, 8)))),
    "◆": (Shape(_diamond(5.4)),),
    "◇": (_hollow_diamond(5.4, 2.2),),
    "▲": (Shape(((6, 6.6), (11, 16.4), (1, 16.4))),),
    "▴": (Shape(((6, 9), (9.6, 15), (2.4, 15))),),
    "▾": (Shape(((6, 15.4), (9.6, 9.4), (2.4, 9.4))),),
    "✖": _cross(),
    "‖": (_box(2.6, 6, 2, 12), _box(7.4, 6, 2, 12)),
    "→": _arrow(0),
    "↓": _arrow(1),
    "←": _arrow(2),
    "↑": _arrow(3),
    **{chr(0x2580 + n): (_box(0, 24 - 3 * n, 12, 3 * n),) for n in range(1, 8)},
}
"""What each character looks like."""
