"""The cells of the block map: what each stands for, and where it is. Pure functions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from engine.snapshot import NO_OWNER, BlockState, BlockTier
from styles.tokens import BLOCK_ORDER

MAX_CELL_WIDTH = 5
GAPPED_CELL_WIDTH = 3


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


def aggregate_tiers(tiers: bytes, num_cells: int) -> list[BlockTier]:
    """The tier of each cell of ``aggregate``: that of most of its blocks in use.

    Of two that are even, the one that would be lost.
    """
    if not tiers or num_cells <= 0:
        return []
    per_cell = blocks_per_cell(len(tiers), num_cells)
    if per_cell == 1:
        return [BlockTier(tier) for tier in tiers]
    return [_cell_tier(tiers[at : at + per_cell]) for at in range(0, len(tiers), per_cell)]


def _cell_tier(tiers: bytes) -> BlockTier:
    num_on_disk, num_in_memory = tiers.count(BlockTier.DISK), tiers.count(BlockTier.MEMORY)
    if num_on_disk > num_in_memory:
        return BlockTier.DISK
    return BlockTier.MEMORY if num_in_memory else BlockTier.NONE


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How a map is laid out.

    Attributes:
        num_cells: Cells of the map.
        blocks_per_cell: Blocks that a cell stands for.
        cell_width: Characters of a cell.
        cells_per_line: Cells side by side.
        line_step: Lines from one row of cells to the next.
        height: Lines that there are for the map.
    """

    num_cells: int
    blocks_per_cell: int
    cell_width: int
    cells_per_line: int
    line_step: int
    height: int

    def cell_at(self, x: int, y: int) -> int | None:
        """The cell at a place of the map; None where there is none."""
        line, rest = divmod(y, self.line_step)
        column = x // self.cell_width
        at = line * self.cells_per_line + column
        is_there = not rest and column < self.cells_per_line and at < self.num_cells
        return at if is_there else None


def grid_for(num_blocks: int, width: int, height: int) -> Grid:
    """The layout of a map of so many blocks in so much room."""
    per_cell = blocks_per_cell(num_blocks, width * height)
    num_cells = -(-num_blocks // per_cell)
    cell_width, line_step = _cell_size(num_cells, width, height)
    return Grid(
        num_cells=num_cells,
        blocks_per_cell=per_cell,
        cell_width=cell_width,
        cells_per_line=max(1, width // cell_width),
        line_step=line_step,
        height=height,
    )


def state_counts(states: bytes) -> dict[BlockState, int]:
    """How many blocks are in each state, in the order of the legend."""
    return {state: states.count(state) for state in BLOCK_ORDER}


def _cell_size(num_cells: int, width: int, height: int) -> tuple[int, int]:
    """The largest cells that fit: characters of one, and lines from one row to the next.

    Cells that are apart are apart on all sides, or they would look like columns; where there is no
    room for that they touch.
    """
    for cell_width in range(MAX_CELL_WIDTH, 0, -1):
        is_apart = cell_width >= GAPPED_CELL_WIDTH
        num_lines = -(-num_cells // max(1, width // cell_width))
        line_step = 2 if is_apart and num_lines > 1 else 1
        if (num_lines - 1) * line_step < height:
            return cell_width, line_step
    return 1, 1
