"""The block pool on one line, for screens without room for the map."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.snapshot import PoolRow
from styles.tokens import BLOCK_ROLE, BRIGHT, DIM, MUTED, UNICODE, Glyphs
from widgets.bars import stacked
from widgets.block_cells import state_counts
from widgets.block_legend import state_line

BAR_CELLS = 24


class PoolLine(Widget):
    """A bar stacked by block state, and its legend."""

    glyphs: reactive[Glyphs] = reactive(UNICODE)
    pool: reactive[PoolRow] = reactive(PoolRow())

    def render(self) -> Content:
        """Figure, bar, legend."""
        width = self.content_size.width
        pool = self.pool
        if width <= 0:
            return Content("")
        if not pool.num_total_blocks:
            return Content.assemble(("pool ", MUTED), ("not sized yet", DIM))
        used = pool.num_total_blocks - pool.num_free_blocks - pool.num_cached_blocks
        marks = self.glyphs.block
        bar = stacked(
            [
                (count, marks[state], BLOCK_ROLE[state])
                for state, count in state_counts(pool.block_states).items()
            ],
            BAR_CELLS,
        )
        figure = f"{used}/{pool.num_total_blocks} "
        room = width - BAR_CELLS - len(figure) - 7
        return Content.assemble(
            ("pool ", MUTED),
            (figure, BRIGHT),
            bar,
            "  ",
            state_line(pool, room, self.glyphs),
        )
