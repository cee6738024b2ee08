"""The block map: every block of the pool as a cell, or many to a cell where there are many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from textual import events
from textual.content import Content
from textual.reactive import reactive

from engine.snapshot import NO_OWNER, BlockState, PoolRow
from styles.tokens import (
    BLOCK_ORDER,
    BLOCK_ROLE,
    BLOCK_WORD,
    BRIGHT,
    MUTED,
    OWNER_COLOURS,
    Glyphs,
)
from widgets.bars import Part, merged
from widgets.format import short_bytes, short_count, short_ids, shorten
from widgets.pane import Pane

MAX_LEGEND_LINES = 2
MAX_CELL_WIDTH = 5
GAPPED_CELL_WIDTH = 3
NAME_CELLS = 18
EVICTIONS_FROM = 68


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockMapSlice:
    """The pool, and the names that block owners index.

    Attributes:
        pool: The pool.
        agent_ids: Ids in the order of the snapshot's rows.
        num_pending: Blocks that wait to be written to disk.
    """

    pool: PoolRow = field(default_factory=PoolRow)
    agent_ids: tuple[str, ...] = ()
    num_pending: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the map.

    Attributes:
        state: The state that most of its blocks in use have; FREE when none is in use.
        owner: The owner of most of those, or NO_OWNER.
    """

    state: BlockState
    owner: int


def aggregate(states: bytes, owners: bytes, num_cells: int) -> list[Cell]:
    """Cells for the blocks, in order, at most ``num_cells``.

    With more blocks than cells each cell stands for a run of neighbours (the last may be
    shorter). A cell with any block in use is never drawn as free.
    """
    if not states or num_cells <= 0:
        return []
    per_cell = blocks_per_cell(len(states), num_cells)
    if per_cell == 1:
        return [Cell(BlockState(s), o) for s, o in zip(states, owners, strict=True)]
    return [
        _cell(states[start : start + per_cell], owners[start : start + per_cell])
        for start in range(0, len(states), per_cell)
    ]


def blocks_per_cell(num_blocks: int, num_cells: int) -> int:
    """How many blocks one cell stands for."""
    return max(1, -(-num_blocks // max(1, num_cells)))


def _cell(states: bytes, owners: bytes) -> Cell:
    counts = {state: states.count(state) for state in BLOCK_ORDER if state}
    state = max(counts, key=lambda key: counts[key])
    if not counts[state]:
        return Cell(BlockState.FREE, NO_OWNER)
    owned = Counter(owner for owner, at in zip(owners, states, strict=True) if at == state)
    return Cell(state, owned.most_common(1)[0][0])


def state_counts(states: bytes) -> dict[BlockState, int]:
    """How many blocks are in each state, in the order of the legend."""
    return {state: states.count(state) for state in BLOCK_ORDER}


class BlockMapPane(Pane[BlockMapSlice]):
    """The map and its legend. ``by_agent`` colours by owner; marks always tell the state."""

    by_agent: reactive[bool] = reactive(False)

    def __init__(self) -> None:
        super().__init__(BlockMapSlice(), "blocks", widget_id="blocks")

    def slice_changed(self) -> None:
        """Names the size of the pool in the border."""
        self._name_border()
        self.refresh()

    def watch_by_agent(self) -> None:
        """Names the colouring in the border."""
        self._name_border()

    def on_click(self, event: events.Click) -> None:
        """Switches the colouring."""
        self.by_agent = not self.by_agent

    def _name_border(self) -> None:
        pool = self._slice.pool
        total = pool.num_total_blocks
        self.border_title = (
            f"blocks [b]{short_count(total)}[/b] of {pool.block_tokens} tokens"
            if total
            else "blocks"
        )
        self.border_subtitle = "by agent" if self.by_agent else "by state"

    def draw(self, width: int, height: int) -> list[Content]:
        """The map, a blank line where there is room, the legend."""
        pool = self._slice.pool
        if not pool.block_states:
            return [Content.styled("no pool yet: it is sized when a model is loaded", MUTED)]
        entries = self._owner_legend() if self.by_agent else self._state_legend()
        legend = _legend(entries, width)
        map_height = max(1, height - len(legend) - 2)
        cells = aggregate(pool.block_states, pool.block_owners, width * map_height)
        cell_width = _cell_width(len(cells), width, map_height)
        per_line = width // cell_width
        lines = [
            self._line(cells[at : at + per_line], cell_width)
            for at in range(0, len(cells), per_line)
        ]
        if len(lines) > 1 and cell_width >= GAPPED_CELL_WIDTH and len(lines) * 2 - 1 <= map_height:
            lines = [part for line in lines for part in (line, Content(""))][:-1]
        lines += [Content("")] * (height - len(legend) - 1 - len(lines))
        return [*lines, *legend, self._scale(width, map_height)]

    def _line(self, cells: Sequence[Cell], cell_width: int) -> Content:
        """Cells side by side; wide ones keep a gap, so that each block is seen."""
        parts: list[Part] = []
        gap = cell_width // GAPPED_CELL_WIDTH
        for cell in cells:
            mark = self.glyphs.block[cell.state]
            num_marks = 1 if cell.state is BlockState.FREE else cell_width - gap
            parts.append((f"{mark * num_marks:<{cell_width}}", self._role(cell)))
        return Content.assemble(*merged(parts))

    def _role(self, cell: Cell) -> str:
        if not self.by_agent or cell.owner == NO_OWNER or cell.state is BlockState.SHARED:
            return BLOCK_ROLE[cell.state]
        return OWNER_COLOURS[cell.owner % len(OWNER_COLOURS)]

    def _state_legend(self) -> list[list[Part]]:
        counts = state_counts(self._slice.pool.block_states)
        return [
            [
                (self.glyphs.block[state], BLOCK_ROLE[state]),
                (f" {BLOCK_WORD[state]} ", MUTED),
                (short_count(count), BRIGHT),
            ]
            for state, count in counts.items()
            if count or state in (BlockState.RUNNING, BlockState.SHARED, BlockState.FREE)
        ]

    def _owner_legend(self) -> list[list[Part]]:
        pool = self._slice.pool
        shared = pool.block_states.count(BlockState.SHARED)
        full = self.glyphs.block[BlockState.RUNNING]
        entries: list[list[Part]] = [
            [
                (self.glyphs.block[BlockState.SHARED], BLOCK_ROLE[BlockState.SHARED]),
                (" shared ", MUTED),
                (short_count(shared), BRIGHT),
            ]
        ]
        owned = Counter(
            owner
            for owner, state in zip(pool.block_owners, pool.block_states, strict=True)
            if owner != NO_OWNER and state != BlockState.SHARED
        )
        for owner, count in owned.most_common():
            if owner < len(self._slice.agent_ids):
                name = shorten(
                    short_ids(self._slice.agent_ids[owner]), NAME_CELLS, self.glyphs.ellipsis
                )
                colour = OWNER_COLOURS[owner % len(OWNER_COLOURS)]
                entries.append([(full, colour), (f" {name} ", MUTED), (short_count(count), BRIGHT)])
        return entries

    def _scale(self, width: int, map_height: int) -> Content:
        pool = self._slice.pool
        per_cell = blocks_per_cell(pool.num_total_blocks, width * map_height)
        unit = "1 cell = 1 block" if per_cell == 1 else f"1 cell = {per_cell} blocks"
        num_pending = self._slice.num_pending
        return Content.assemble(
            (short_bytes(pool.bytes_used), BRIGHT),
            (f" of {short_bytes(pool.bytes_budget)} filled", MUTED),
            (f"   {unit}", MUTED),
            (f"   {pool.num_evictions} evictions" if width >= EVICTIONS_FROM else "", MUTED),
            (f"   {short_count(num_pending)} to write" if num_pending else "", MUTED),
        )


def _cell_width(num_cells: int, width: int, height: int) -> int:
    """The widest cell, in characters, with which all cells still fit."""
    fitting = [
        cell_width
        for cell_width in range(1, MAX_CELL_WIDTH + 1)
        if -(-num_cells // max(1, width // cell_width)) <= height
    ]
    return max(fitting, default=1)


def _legend(entries: Sequence[list[Part]], width: int) -> list[Content]:
    """Entries on one line if they fit it at all, else on as many as are allowed."""
    pieces = [Content.assemble(*entry) for entry in entries]
    for gap in ("  ", " "):
        line = Content(gap).join(pieces)
        if line.cell_length <= width:
            return [line]
    return _flow(entries, width, MAX_LEGEND_LINES)


def _flow(entries: Sequence[list[Part]], width: int, num_lines: int) -> list[Content]:
    """Legend entries on as many lines as are given; what does not fit is left out whole."""
    lines: list[Content] = [Content("")]
    for entry in entries:
        piece = Content.assemble(*entry)
        gap = 2 if lines[-1].cell_length else 0
        if lines[-1].cell_length + gap + piece.cell_length > width:
            if len(lines) == num_lines:
                break
            lines.append(piece)
        else:
            lines[-1] = Content.assemble(lines[-1], " " * gap, piece)
    return lines


def legend_line(pool: PoolRow, width: int, glyphs: Glyphs) -> Content:
    """The states of a pool with their counts, as far as they fit one line."""
    counts = state_counts(pool.block_states)
    entries: list[list[Part]] = [
        [
            (glyphs.block[state], BLOCK_ROLE[state]),
            (f" {BLOCK_WORD[state]} ", MUTED),
            (short_count(count), BRIGHT),
        ]
        for state, count in counts.items()
        if count
    ]
    return _flow(entries, width, 1)[0]
