"""The warm tier of a scripted world: which blocks are on disk, and how fast the rest follows."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set

from engine.scripted_cast import BLOCK_BYTES, BLOCK_TOKENS, RUNNING, Actor
from engine.snapshot import DiskRow

BUDGET_BYTES = 20_000_000_000
NUM_OLDER_BLOCKS = 96
"""Blocks that earlier runs left."""
WRITE_BLOCKS_S = 2.0
READ_BYTES_S = 260e6


class ScriptedDisk:
    """Blocks that hold what is on disk too. A block that is given to somebody else is forgotten."""

    def __init__(self) -> None:
        self._stored: set[int] = set()
        self._num_blocks = NUM_OLDER_BLOCKS
        self._allowance = 0.0
        self._pending: tuple[int, ...] = ()

    @property
    def pending(self) -> frozenset[int]:
        """Blocks that wait to be written."""
        return frozenset(self._pending)

    @property
    def stored(self) -> Set[int]:
        """Blocks whose content is on disk too."""
        return self._stored

    @property
    def row(self) -> DiskRow:
        """The tier's numbers."""
        return DiskRow(
            is_on=True,
            bytes_used=min(BUDGET_BYTES, self._num_blocks * BLOCK_BYTES),
            bytes_budget=BUDGET_BYTES,
            num_blocks=min(BUDGET_BYTES // BLOCK_BYTES, self._num_blocks),
            num_pending=len(self._pending),
        )

    def write_behind(self, actors: Sequence[Actor], seconds: float) -> None:
        """Writes what ``seconds`` allow of the actors' full blocks; idle ones' tails too."""
        waiting = {
            block: None
            for actor in actors
            for block in _writable(actor)
            if block not in self._stored
        }
        self._allowance = min(1.0, self._allowance) + seconds * WRITE_BLOCKS_S
        written = list(waiting)[: int(self._allowance)]
        self._allowance -= len(written)
        self._stored.update(written)
        self._num_blocks += len(written)
        self._pending = tuple(waiting)[len(written) :]

    def num_stored(self, table: Sequence[int]) -> int:
        """How many blocks at the start of a table are on disk."""
        for number, block in enumerate(table):
            if block not in self._stored:
                return number
        return len(table)

    def forget(self, blocks: Collection[int]) -> None:
        """These blocks hold something else now."""
        self._stored.difference_update(blocks)

    def read(self, blocks: Collection[int]) -> float:
        """Fills blocks from disk; returns how long that takes, in seconds."""
        self._stored.update(blocks)
        return len(blocks) * BLOCK_BYTES / READ_BYTES_S


def _writable(actor: Actor) -> list[int]:
    is_running = actor.status in RUNNING
    return actor.table[: actor.num_context // BLOCK_TOKENS] if is_running else actor.table
