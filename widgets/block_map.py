"""The block map: every block of the pool as a cell, or many to a cell where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from engine.snapshot import BlockRow, PoolRow
from styles.tokens import BRIGHT, CURSOR, MUTED
from widgets.bars import Part, merged
from widgets.block_cells import GAPPED_CELL_WIDTH, Grid, grid_for
from widgets.block_legend import ColourBy, Paint, legend_lines, painted
from widgets.block_words import many_blocks_lines, one_block_lines
from widgets.format import short_bytes, short_count
from widgets.pane import Pane

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


class BlockMapPane(Pane[BlockMapSlice]):
    """The map and its legend, coloured in one of three ways."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1, 0)", "Show the cursor, and move it.", show=False),
        Binding("right,l", "move(1, 0)", "Show the cursor, and move it.", show=False),
        Binding("up,k", "move(0, -1)", "Show the cursor, and move it.", show=False),
        Binding("down,j", "move(0, 1)", "Show the cursor, and move it.", show=False),
        Binding("home,g", "jump(0)", "Go to the first or the last block.", show=False),
        Binding("end,G", "jump(-1)", "Go to the first or the last block.", show=False),
    ]

    colour_by: reactive[ColourBy] = reactive(ColourBy.STATE)
    cursor: reactive[int | None] = reactive(None)
    """The cell that is explained; None before anybody pointed at one."""

    class Asked(Message):
        """Somebody wants to know what is in a block."""

        def __init__(self, block_id: int) -> None:
            self.block_id = block_id
            super().__init__()

    def __init__(self) -> None:
        super().__init__(BlockMapSlice(), "blocks", widget_id="blocks")
        self._answer: BlockRow | None = None
        self._asked: int | None = None

    def slice_changed(self) -> None:
        """Names the size of the pool in the border."""
        self._name_border()
        self._ask()
        self.refresh_changed()

    def on_resize(self) -> None:
        """Other blocks are under the cursor where cells stand for other blocks."""
        self._ask()

    def watch_cursor(self) -> None:
        """Asks what is under it now."""
        self._ask()

    def take_answer(self, block_id: int, block: BlockRow | None) -> None:
        """What the engine tells of a block; asks again where another one is wanted by now.

        Args:
            block_id: The block that was asked for.
            block: What is in it; None where that cannot be told.
        """
        self._asked = None
        if block_id == self._block_under_cursor:
            if block != self._answer:
                self._answer = block
                self.refresh()
        else:
            self._ask()

    def _ask(self) -> None:
        """Asks about the one block under the cursor; there is one question at a time."""
        block_id = self._block_under_cursor
        if self._answer is not None and self._answer.block_id != block_id:
            self._answer = None
        if block_id is not None and self._asked is None and self.is_on_screen:
            self._asked = block_id
            self.post_message(self.Asked(block_id))

    @property
    def _block_under_cursor(self) -> int | None:
        blocks = self._blocks_under_cursor()
        return blocks.start if blocks is not None and len(blocks) == 1 else None

    def _blocks_under_cursor(self) -> range | None:
        num_blocks = len(self._slice.pool.block_states)
        width, height = self.content_size
        if self.cursor is None or not num_blocks or width <= 0 or height <= 0:
            return None
        grid = self._grid(width, height)
        start = min(self.cursor, grid.num_cells - 1) * grid.blocks_per_cell
        return range(start, min(start + grid.blocks_per_cell, num_blocks))

    def action_move(self, columns: int, lines: int) -> None:
        """Moves the cursor; the first time it appears."""
        num_blocks = len(self._slice.pool.block_states)
        if not num_blocks:
            return
        grid = self._grid(*self.content_size)
        at = 0 if self.cursor is None else self.cursor + columns + lines * grid.cells_per_line
        if 0 <= at < grid.num_cells:
            self.cursor = at

    def action_jump(self, index: int) -> None:
        """Moves the cursor to the first (0) or last (-1) cell."""
        if self._slice.pool.block_states:
            self.cursor = index if index >= 0 else self._grid(*self.content_size).num_cells - 1

    def on_key(self, event: events.Key) -> None:
        """Escape takes the cursor away."""
        if event.key == "escape" and self.cursor is not None:
            event.stop()
            event.prevent_default()
            self.cursor = None

    def watch_colour_by(self) -> None:
        """Names the colouring in the border."""
        self._name_border()

    def on_click(self, event: events.Click) -> None:
        """Explains the cell under the mouse."""
        offset = event.get_content_offset(self)
        if offset is None or not self._slice.pool.block_states:
            return
        grid = self._grid(*self.content_size)
        at = grid.cell_at(offset.x, offset.y)
        if at is not None:
            self.cursor = at

    def _name_border(self) -> None:
        pool = self._slice.pool
        total = pool.num_total_blocks
        title = f"blocks [b]{short_count(total)}[/b] of {pool.block_tokens} tokens"
        self.name_border(title if total else "blocks", f"by {self.colour_by}")

    def draw(self, width: int, height: int) -> list[Content]:
        """The map, a blank line where there is room, the legend."""
        pool = self._slice.pool
        if not pool.block_states:
            return [Content.styled("no pool yet: it is sized when a model is loaded", MUTED)]
        if self.colour_by is ColourBy.TIER and not pool.block_tiers:
            return [Content.styled("that Stoker does not tell which blocks are on disk", MUTED)]
        legend = self._legend(width)
        grid = self._grid(width, height)
        cells = painted(pool, width * grid.height, self.colour_by, self.glyphs)
        per_line = grid.cells_per_line
        lines = [
            self._line(cells[at : at + per_line], at, grid.cell_width)
            for at in range(0, len(cells), per_line)
        ]
        if grid.line_step > 1:
            lines = [part for line in lines for part in (line, Content(""))][:-1]
        lines += [Content("")] * (height - len(legend) - 1 - len(lines))
        blocks = self._blocks_under_cursor()
        if blocks is None:
            return [*lines, *legend, self._scale(width, grid)]
        # The words take the place of the legend and of the line under it, so nothing moves.
        return [*lines, *[Content("")] * (len(legend) - 1), *self._explained(blocks, width)]

    def _explained(self, blocks: range, width: int) -> list[Content]:
        shown = self._slice
        if len(blocks) > 1:
            return many_blocks_lines(shown.pool, blocks, shown.agent_ids, width, self.glyphs)
        is_told = self._answer is not None and self._answer.block_id == blocks.start
        answer = self._answer if is_told else None
        return one_block_lines(
            shown.pool, blocks.start, answer, shown.agent_ids, width, self.glyphs
        )

    def _legend(self, width: int) -> list[Content]:
        shown = self._slice
        return legend_lines(shown.pool, shown.agent_ids, self.colour_by, width, self.glyphs)

    def _grid(self, width: int, height: int) -> Grid:
        """How the map is laid out in a pane of that size."""
        map_height = max(1, height - len(self._legend(width)) - 2)
        return grid_for(len(self._slice.pool.block_states), width, map_height)

    def _line(self, cells: Sequence[Paint], first: int, cell_width: int) -> Content:
        """Cells side by side; wide ones keep a gap, so that each block is seen."""
        parts: list[Part] = []
        gap = cell_width // GAPPED_CELL_WIDTH
        for at, (mark, role, is_free) in enumerate(cells, first):
            marks = mark * (1 if is_free else cell_width - gap)
            if at == self.cursor:
                parts.append((f"{marks:<{cell_width - gap}}", CURSOR))
                parts.append((" " * gap, ""))
            else:
                parts.append((f"{marks:<{cell_width}}", role))
        return Content.assemble(*merged(parts))

    def _scale(self, width: int, grid: Grid) -> Content:
        pool, per_cell = self._slice.pool, grid.blocks_per_cell
        unit = "1 cell = 1 block" if per_cell == 1 else f"1 cell = {per_cell} blocks"
        num_pending = self._slice.num_pending
        return Content.assemble(
            (short_bytes(pool.bytes_used), BRIGHT),
            (f" of {short_bytes(pool.bytes_budget)} filled", MUTED),
            (f"   {unit}", MUTED),
            (f"   {pool.num_evictions} evictions" if width >= EVICTIONS_FROM else "", MUTED),
            (f"   {short_count(num_pending)} to write" if num_pending else "", MUTED),
        )
