"""Which panes there are and how large: what a person changed about the style sheet's layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

NUM_COLUMNS = 12
MIN_COLUMNS = 2
MIN_LINES = 4
LINES_PER_STEP = 2
ALWAYS = ("agents", "welcome", "loading")
"""Panes that are not hidden: without agents there is nothing to act on."""

PRESETS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("agents", "agents and events", ("agents", "events")),
    ("cache", "agents, blocks, explainer and events", ("blocks", "agent-detail", "events")),
    ("speed", "agents, throughput and batch", ("throughput", "batch")),
)
"""Names, what they show in words, and the panes that they keep beside the agents."""

Row = list[tuple[str, int]]
"""Panes beside each other, by id, with the columns of each."""


@dataclass(frozen=True, slots=True)
class PaneLayout:
    """A person's changes; the empty one is the layout of the style sheet.

    Attributes:
        hidden: Ids of panes that are not shown.
        wider: Columns that panes have more than the sheet gives them, by id.
        taller: Lines that the rows of panes have more, by id.
    """

    hidden: frozenset[str] = frozenset()
    wider: Mapping[str, int] = field(default_factory=dict)
    taller: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_standard(self) -> bool:
        """Whether nothing was changed."""
        return not (self.hidden or self.wider or self.taller)

    def hiding(self, pane_id: str) -> PaneLayout:
        """With one pane less."""
        return replace(self, hidden=self.hidden | {pane_id})

    def showing(self, pane_id: str) -> PaneLayout:
        """With a hidden pane back."""
        return replace(self, hidden=self.hidden - {pane_id})

    def widening(self, pane_id: str, num_columns: int) -> PaneLayout:
        """With a pane wider by so many columns."""
        return replace(self, wider=_changed(self.wider, pane_id, num_columns))

    def heightening(self, pane_id: str, num_lines: int) -> PaneLayout:
        """With a pane's row taller by so many lines."""
        return replace(self, taller=_changed(self.taller, pane_id, num_lines))

    def as_json(self) -> dict[str, object]:
        """The layout as plain values."""
        return {
            "hidden": sorted(self.hidden),
            "wider": dict(self.wider),
            "taller": dict(self.taller),
        }

    @classmethod
    def from_json(cls, value: object) -> PaneLayout:
        """The inverse; what is not what it should be is left out."""
        given = value if isinstance(value, dict) else {}
        hidden = given.get("hidden")
        names = hidden if isinstance(hidden, list) else []
        return cls(
            hidden=frozenset(n for n in names if isinstance(n, str) and n not in ALWAYS),
            wider=_offsets(given.get("wider"), NUM_COLUMNS),
            taller=_offsets(given.get("taller"), 100),
        )


def preset(name: str, pane_ids: Iterable[str]) -> PaneLayout:
    """A layout by its name; one that there is not hides nothing.

    Args:
        name: Of the preset.
        pane_ids: All panes there are.
    """
    kept = next((kept for each, _, kept in PRESETS if each == name), None)
    if kept is None:
        return PaneLayout()
    return PaneLayout(hidden=frozenset(pane_ids) - {*kept, *ALWAYS})


def _changed(offsets: Mapping[str, int], pane_id: str, by: int) -> dict[str, int]:
    changed = {**offsets, pane_id: offsets.get(pane_id, 0) + by}
    return {name: offset for name, offset in changed.items() if offset}


def _offsets(value: object, limit: int) -> dict[str, int]:
    given = value if isinstance(value, dict) else {}
    return {
        name: max(-limit, min(limit, offset))
        for name, offset in given.items()
        if isinstance(name, str) and isinstance(offset, int) and not isinstance(offset, bool)
    }


def rows_of(panes: Sequence[tuple[str, int]]) -> list[Row]:
    """The rows that panes of so many columns fill, in their order."""
    starts: list[tuple[int, tuple[str, int]]] = []
    row, used = 0, 0
    for pane_id, num_columns in panes:
        if used + num_columns > NUM_COLUMNS:
            row, used = row + 1, 0
        used += num_columns
        starts.append((row, (pane_id, num_columns)))
    return [[pane for _, pane in members] for _, members in groupby(starts, lambda each: each[0])]


def arranged(row: Row, layout: PaneLayout) -> Row:
    """A row without its hidden panes; the others fill it, each as wide as a person wants."""
    shown = [(pane_id, width) for pane_id, width in row if pane_id not in layout.hidden]
    bases = shares([width for _, width in shown], NUM_COLUMNS, MIN_COLUMNS)
    wider = [layout.wider.get(pane_id, 0) for pane_id, _ in shown]
    widths = moved(bases, wider, MIN_COLUMNS)
    return [(pane_id, width) for (pane_id, _), width in zip(shown, widths, strict=True)]


def row_lines(bases: Sequence[int], rows: Sequence[Row], layout: PaneLayout) -> list[int]:
    """Lines of each row.

    Args:
        bases: What the style sheet gives each of them.
        rows: Their panes.
        layout: A person's changes.
    """
    taller = [sum(layout.taller.get(pane_id, 0) for pane_id, _ in row) for row in rows]
    return moved(shares(bases, sum(bases), MIN_LINES), taller, MIN_LINES)


def moved(parts: Sequence[int], offsets: Sequence[int], least: int) -> list[int]:
    """Parts that have grown or shrunk at their neighbours' cost or gain, down to the least."""
    new = list(parts)
    for at, offset in enumerate(offsets):
        neighbours = [*range(at + 1, len(new)), *range(at - 1, -1, -1)]
        for _ in range(abs(offset)):
            givers = neighbours if offset > 0 else [at]
            giver = next((each for each in givers if new[each] > least), None)
            if giver is None or not neighbours:
                break
            new[giver] -= 1
            new[at if offset > 0 else neighbours[0]] += 1
    return new


def shares(wishes: Sequence[int], total: int, least: int) -> list[int]:
    """Whole parts of a total in proportion to wishes, none smaller than the least if they fit."""
    if not wishes:
        return []
    scale = total / sum(wishes)
    parts = [max(least, int(wish * scale)) for wish in wishes]
    while sum(parts) != total:
        step = 1 if sum(parts) < total else -1
        # Whoever is furthest from its exact part gives or takes.
        gaps = [(wish * scale - part) * step for wish, part in zip(wishes, parts, strict=True)]
        best = max(range(len(parts)), key=gaps.__getitem__)
        if step < 0 and parts[best] <= least:
            best = max(range(len(parts)), key=parts.__getitem__)
        parts[best] += step
    return parts
