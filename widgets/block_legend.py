"""What the cells of the block map mean: three ways to colour them, each with its legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from textual.content import Content

from engine.snapshot import NO_OWNER, BlockState, BlockTier, PoolRow
from styles.tokens import (
    BLOCK_ROLE,
    BLOCK_WORD,
    BRIGHT,
    MUTED,
    OWNER_COLOURS,
    TIER_ROLE,
    TIER_WORD,
    Glyphs,
)
from widgets.bars import Part
from widgets.block_cells import Cell, aggregate, aggregate_tiers, state_counts
from widgets.format import short_count, short_ids, shorten

NAME_CELLS = 18
Paint = tuple[str, str, bool]
"""A cell's mark, its colour, and whether nothing in it is in use."""


class ColourBy(StrEnum):
    """What the colours of the block map tell."""

    STATE = "state"
    AGENT = "agent"
    TIER = "tier"

    @property
    def next(self) -> ColourBy:
        """The one after it; the first one after the last."""
        every = list(ColourBy)
        return every[(every.index(self) + 1) % len(every)]


MAX_LEGEND_LINES = {ColourBy.STATE: 2, ColourBy.AGENT: 3, ColourBy.TIER: 2}


def painted(pool: PoolRow, num_cells: int, by: ColourBy, glyphs: Glyphs) -> list[Paint]:
    """The cells of a pool. Marks tell what the colours tell, or more.

    Args:
        pool: The pool; by tier it has to tell the tiers.
        num_cells: Cells that there is room for.
        by: What the colours tell.
        glyphs: Marks.
    """
    if by is ColourBy.TIER:
        tiers = aggregate_tiers(pool.block_tiers, num_cells)
        return [(glyphs.tier[t], TIER_ROLE[t], t is BlockTier.NONE) for t in tiers]
    return [
        (glyphs.block[cell.state], _role(cell, by), cell.state is BlockState.FREE)
        for cell in aggregate(pool.block_states, pool.block_owners, num_cells)
    ]


def _role(cell: Cell, by: ColourBy) -> str:
    has_no_owner = cell.owner == NO_OWNER or cell.state is BlockState.SHARED
    if by is ColourBy.STATE or has_no_owner:
        return BLOCK_ROLE[cell.state]
    return OWNER_COLOURS[cell.owner % len(OWNER_COLOURS)]


def legend_lines(
    pool: PoolRow, agent_ids: Sequence[str], by: ColourBy, width: int, glyphs: Glyphs
) -> list[Content]:
    """What the marks and colours stand for, with counts; one line if it fits it at all.

    Args:
        pool: The pool.
        agent_ids: Names in the order of the snapshot's rows.
        by: What the colours tell.
        width: Cells.
        glyphs: Marks.
    """
    if by is ColourBy.AGENT:
        entries = _owner_entries(pool, agent_ids, glyphs)
    elif by is ColourBy.TIER:
        entries = _tier_entries(pool, glyphs)
    else:
        entries = _state_entries(pool, glyphs)
    pieces = [Content.assemble(*entry) for entry in entries]
    for gap in ("  ", " "):
        line = Content(gap).join(pieces)
        if line.cell_length <= width:
            return [line]
    return _flow(entries, width, MAX_LEGEND_LINES[by])


def _entry(mark: str, role: str, word: str, count: int) -> list[Part]:
    return [(mark, role), (f" {word} ", MUTED), (short_count(count), BRIGHT)]


def _state_entries(pool: PoolRow, glyphs: Glyphs) -> list[list[Part]]:
    return [
        _entry(glyphs.block[state], BLOCK_ROLE[state], BLOCK_WORD[state], count)
        for state, count in state_counts(pool.block_states).items()
        if count or state in (BlockState.RUNNING, BlockState.SHARED, BlockState.FREE)
    ]


def _tier_entries(pool: PoolRow, glyphs: Glyphs) -> list[list[Part]]:
    return [
        _entry(glyphs.tier[tier], TIER_ROLE[tier], TIER_WORD[tier], pool.block_tiers.count(tier))
        for tier in (BlockTier.MEMORY, BlockTier.DISK, BlockTier.NONE)
    ]


def _owner_entries(pool: PoolRow, agent_ids: Sequence[str], glyphs: Glyphs) -> list[list[Part]]:
    shared = BlockState.SHARED
    num_shared = pool.block_states.count(shared)
    full = glyphs.block[BlockState.RUNNING]
    entries = [_entry(glyphs.block[shared], BLOCK_ROLE[shared], "shared", num_shared)]
    owned = Counter(
        owner
        for owner, state in zip(pool.block_owners, pool.block_states, strict=True)
        if owner != NO_OWNER and state != shared
    )
    for owner, count in owned.most_common():
        if owner < len(agent_ids):
            name = shorten(short_ids(agent_ids[owner]), NAME_CELLS, glyphs.ellipsis)
            entries.append(_entry(full, OWNER_COLOURS[owner % len(OWNER_COLOURS)], name, count))
    return entries


def _flow(entries: Sequence[list[Part]], width: int, num_lines: int) -> list[Content]:
    """Legend entries on as many lines as are given; how many did not fit is said, if that does."""
    lines: list[Content] = [Content("")]
    for at, entry in enumerate(entries):
        piece = Content.assemble(*entry)
        gap = 2 if lines[-1].cell_length else 0
        if lines[-1].cell_length + gap + piece.cell_length > width:
            if len(lines) == num_lines:
                rest = f"  +{len(entries) - at}"
                if lines[-1].cell_length + len(rest) <= width:
                    lines[-1] = Content.assemble(lines[-1], (rest, MUTED))
                break
            lines.append(piece)
        else:
            lines[-1] = Content.assemble(lines[-1], " " * gap, piece)
    return lines


def state_line(pool: PoolRow, width: int, glyphs: Glyphs) -> Content:
    """The states of a pool with their counts, as far as they fit one line."""
    entries = [
        _entry(glyphs.block[state], BLOCK_ROLE[state], BLOCK_WORD[state], count)
        for state, count in state_counts(pool.block_states).items()
        if count
    ]
    return _flow(entries, width, 1)[0]
