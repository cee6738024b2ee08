"""Puts a person's layout over that of the style sheet, with styles of the widgets' own.

Classes would have every style rule weighed again for every widget, which a key press under load
cannot afford.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textual.containers import Container
from textual.css.scalar import Scalar

from app.dashboard.pane_layout import PaneLayout, Row, arranged, row_lines, rows_of
from widgets.pane import Pane


def undo_layout(board: Container) -> None:
    """Leaves everything to the style sheet."""
    board.styles.grid_rows = None
    for pane in board.query(Pane):
        pane.styles.display = None
        pane.styles.column_span = None


def sheet_rows(board: Container) -> list[Row]:
    """The rows of panes that the style sheet shows at this size; none where it stacks them."""
    if board.styles.base.layout is None or board.styles.base.layout.name != "grid":
        return []
    shown = [pane for pane in board.query(Pane) if pane.styles.base.display != "none"]
    return rows_of([(str(pane.id), pane.styles.base.column_span) for pane in shown])


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything goes.

    Attributes:
        rows: The panes of each row, with their columns.
        heights: Of the rows, as the style sheet writes them.
    """

    rows: list[Row]
    heights: list[str]


def plan(board: Container, layout: PaneLayout) -> Plan | None:
    """Where a layout puts the panes at this size; None where the style sheet stacks them."""
    rows = sheet_rows(board)
    if not rows:
        return None
    kept = [(at, arranged(row, layout)) for at, row in enumerate(rows)]
    kept = [(at, row) for at, row in kept if row]
    return Plan([row for _, row in kept], _grid_rows(board, kept, layout))


def lay_out(board: Container, layout: PaneLayout) -> None:
    """Shows the panes that a person wants, as large as they are wanted."""
    undo_layout(board)
    planned = None if layout.is_standard else plan(board, layout)
    if planned is None:
        return
    panes: dict[str, Pane[Any]] = {str(pane.id): pane for pane in board.query(Pane)}
    for pane_id in layout.hidden & panes.keys():
        panes[pane_id].styles.display = "none"
    for row in planned.rows:
        for pane_id, num_columns in row:
            panes[pane_id].styles.column_span = num_columns
    board.styles.grid_rows = planned.heights


def _grid_rows(board: Container, rows: list[tuple[int, Row]], layout: PaneLayout) -> list[str]:
    """Heights of the rows that are left, by their places in the style sheet."""
    sheet = board.styles.base.grid_rows or ()
    given = [sheet[at] if at < len(sheet) else Scalar.parse("1fr") for at, _ in rows]
    if not any(scalar.is_fraction for scalar in given):
        given[0] = Scalar.parse("1fr")
    if not layout.taller:
        return [str(scalar) for scalar in given]
    height = max(board.size.height, sum(s.cells or 0 for s in given))
    room = height - sum(scalar.cells or 0 for scalar in given)
    weight = sum(scalar.value for scalar in given if scalar.is_fraction)
    bases = [
        max(1, int(room * scalar.value / weight)) if scalar.is_fraction else int(scalar.value)
        for scalar in given
    ]
    bases[0] += max(0, height - sum(bases))
    lines = row_lines(bases, [row for _, row in rows], layout)
    return [str(num_lines) for num_lines in lines]
