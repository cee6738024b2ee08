"""What is under the cursor of the block map, in words. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from engine.snapshot import NO_OWNER, BlockRow, BlockState, PoolRow
from styles.tokens import (
    BLOCK_ORDER,
    BLOCK_ROLE,
    BLOCK_WORD,
    BRIGHT,
    DISK,
    MUTED,
    PLAIN,
    Glyphs,
)
from widgets.bars import Part
from widgets.format import clean, duration, short_count, short_ids, shorten

HASH_DIGITS = 12
HELD_BY = "held by "


def one_block_lines(
    pool: PoolRow,
    block_id: int,
    block: BlockRow | None,
    agent_ids: Sequence[str],
    width: int,
    glyphs: Glyphs,
) -> list[Content]:
    """Two lines on one block: what and where it is, and whose.

    Args:
        pool: The pool.
        block_id: The block's place in the map.
        block: What the engine tells of it; None before it did, or where it cannot.
        agent_ids: Names in the order of the snapshot's rows.
        width: Cells.
        glyphs: Marks.
    """
    state = BlockState(pool.block_states[block_id])
    parts: list[Part] = [
        (f"block {block_id}  ", MUTED),
        (f"{glyphs.block[state]} {BLOCK_WORD[state]}", BLOCK_ROLE[state]),
    ]
    if block is not None:
        parts += _contents(block)
    return [Content.assemble(*parts), _owners(pool, block_id, block, agent_ids, width, glyphs)]


def _contents(block: BlockRow) -> list[Part]:
    parts: list[Part] = []
    if block.num_tokens:
        parts += [(f"  {block.num_tokens}", BRIGHT), (" tokens", MUTED)]
    if block.block_hash:
        parts.append((f"  {block.block_hash[:HASH_DIGITS]}", PLAIN))
        parts.append(("  on disk too", DISK) if block.is_on_disk else ("  memory only", MUTED))
    if block.num_slots > 1:
        parts.append((f"  one of {block.num_slots}", MUTED))
    return parts


def _owners(
    pool: PoolRow,
    block_id: int,
    block: BlockRow | None,
    agent_ids: Sequence[str],
    width: int,
    glyphs: Glyphs,
) -> Content:
    """Who holds a block; before the engine has told, the one owner that the map knows."""
    if block is None:
        owner = pool.block_owners[block_id]
        names: Sequence[str] = agent_ids[owner : owner + 1] if owner != NO_OWNER else ()
        num_owners, idle = len(names), ""
    else:
        names, num_owners = block.owners, block.num_owners
        is_idle = block.idle_s is not None and block.idle_s >= 1
        idle = f"  idle {duration(block.idle_s or 0.0)}" if is_idle else ""
    if not names:
        return Content.styled("held by nobody", MUTED)
    held = _held_by(list(names), num_owners, width - cell_len(idle), glyphs)
    return Content.assemble(held, (idle, MUTED))


def many_blocks_lines(
    pool: PoolRow, blocks: range, agent_ids: Sequence[str], width: int, glyphs: Glyphs
) -> list[Content]:
    """Two lines on the blocks of one cell: how many in which state, and whose most of them are."""
    states = pool.block_states[blocks.start : blocks.stop]
    owners = Counter(pool.block_owners[blocks.start : blocks.stop])
    parts: list[Part] = [(f"blocks {blocks.start}-{blocks.stop - 1} ", MUTED)]
    for state in BLOCK_ORDER:
        if count := states.count(state):
            parts.append((f" {glyphs.block[state]} {short_count(count)} ", BLOCK_ROLE[state]))
            parts.append((BLOCK_WORD[state], MUTED))
    num_unheld = owners.pop(NO_OWNER, 0)
    named = [(agent_ids[at], count) for at, count in owners.most_common() if at < len(agent_ids)]
    if not named:
        shared = "held by several agents each" if num_unheld and any(states) else "held by nobody"
        return [Content.assemble(*parts), Content.styled(shared, MUTED)]
    counted = [f"{short_count(count)} {name}" for name, count in named]
    return [Content.assemble(*parts), _held_by(counted, len(counted), width, glyphs)]


def _held_by(names: Sequence[str], num_names: int, width: int, glyphs: Glyphs) -> Content:
    """As many names as fit whole, or the beginning of the first, and how many more there are."""
    whole = [clean(short_ids(name)) for name in names]
    room = width - len(HELD_BY) - len(" +9999")
    num_shown = 1
    while num_shown < len(whole) and cell_len(", ".join(whole[: num_shown + 1])) <= room:
        num_shown += 1
    text = shorten(", ".join(whole[:num_shown]), room, glyphs.ellipsis)
    more = f" +{num_names - num_shown}" if num_names > num_shown else ""
    return Content.assemble((HELD_BY, MUTED), (text, BRIGHT), (more, MUTED))
