"""Which turns of an archived agent can be believed, and what their places are called here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, replace

from engine.cache.block import BLOCK_TOKENS, block_hash
from engine.cache.checkpoint import Place
from engine.cache.disk.records import BlockRecord
from engine.cache.turn_history import TurnMark

_INT64 = 2**63


class Chain:
    """The blocks of an archive as they were called there, and as they are called here."""

    def __init__(self, old_root: bytes, new_root: bytes) -> None:
        """Starts without a block.

        Args:
            old_root: Parent of the first block there.
            new_root: Parent of the first block here.
        """
        self.names: dict[bytes, bytes] = {old_root: new_root}
        self._table: list[bytes] = [old_root]
        self._tokens: dict[bytes, tuple[int, ...]] = {}
        self._parents: dict[bytes, bytes] = {}

    def add(self, block: BlockRecord, *, in_table: bool) -> BlockRecord:
        """The next block under its name here; one that follows none of the others is a KeyError.

        Args:
            block: The block as it was there.
            in_table: Whether it is part of the agent's table, not a checkpoint beside it.
        """
        parent_hash = self.names[block.parent_hash]
        name = block_hash(parent_hash, block.token_ids)
        self.names[block.block_hash] = name
        self._tokens[block.block_hash] = block.token_ids
        self._parents[block.block_hash] = block.parent_hash
        if in_table:
            self._table.append(block.block_hash)
        return replace(block, parent_hash=parent_hash, block_hash=name)

    def marks(self, marks: Iterable[TurnMark]) -> tuple[TurnMark, ...]:
        """Those turns whose ends lie where their marks say, under their names here.

        The others are left out: a fork at such a place would take blocks for what they are not.
        """
        found = (self._mark(mark) for mark in marks if _is_sane(mark))
        return tuple(mark for mark in found if mark is not None)

    def _mark(self, mark: TurnMark) -> TurnMark | None:
        num_full, num_rest = divmod(mark.num_tokens, BLOCK_TOKENS)
        if num_full >= len(self._table) or self._table[num_full] != mark.last_hash:
            return None
        if mark.has_checkpoint:
            is_there = self._parents.get(mark.end_hash) == mark.last_hash
            rest = self._tokens[mark.end_hash] if is_there else None
        else:
            rest = self._rest(num_full, num_rest)
        if rest is None or len(rest) != num_rest:
            return None
        if block_hash(mark.last_hash, rest) != mark.end_hash:
            return None
        last_hash = self.names[mark.last_hash]
        return replace(
            mark,
            last_hash=last_hash,
            end_hash=block_hash(last_hash, rest),
            prompt_places=tuple(
                Place(place.num_tokens, self.names[place.name])
                for place in mark.prompt_places
                if place.name in self._tokens
            ),
        )

    def _rest(self, num_full: int, num_rest: int) -> tuple[int, ...] | None:
        """Tokens between a place in the table and the last full block before it."""
        if not num_rest:
            return ()
        following = self._table[num_full + 1 : num_full + 2]
        return self._tokens[following[0]][:num_rest] if following else None


def _is_sane(mark: TurnMark) -> bool:
    counts = (mark.number, mark.num_prompt_tokens, mark.num_tokens, mark.num_cached_tokens)
    times = (mark.ended_time, mark.ttft_s or 0.0, *astuple(mark.times))
    return (
        all(0 <= count < _INT64 for count in counts)
        and mark.num_tokens > 0
        and all(math.isfinite(time) and 0 <= time < _INT64 for time in times)
        and mark.miss.isprintable()
    )
