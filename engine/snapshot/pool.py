"""The block pool and the warm tier."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from engine.snapshot.durations import DurationsRow


class BlockState(IntEnum):
    """State of one block in the block map; one byte each."""

    FREE = 0
    RUNNING = 1
    """Held by a sequence that is generating."""
    SHARED = 2
    """Held by more than one agent."""
    HOT = 3
    """Held by one idle agent."""
    CACHED = 4
    """Held by nobody, still reusable, first to go."""
    PINNED = 5
    """Held by a pinned agent."""
    DIRTY = 6
    """Not yet written to disk."""


class BlockTier(IntEnum):
    """Where the content of one block in the block map is; one byte each."""

    NONE = 0
    """It has none."""
    MEMORY = 1
    """In memory alone: a turn still writes it, or the disk has not got it."""
    DISK = 2
    """In memory, and durably on disk too."""


NO_OWNER = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """The block pool.

    ``block_states`` has one ``BlockState`` byte per block; ``block_owners`` one byte per block:
    the index of the owning agent in ``EngineSnapshot.agents`` (modulo 255), or ``NO_OWNER``;
    ``block_tiers`` one ``BlockTier`` byte per block, or nothing at all where that is not told.

    Attributes:
        block_tokens: Tokens per block.
        block_bytes: Bytes per full block over all layers.
        num_total_blocks: Size of the pool.
        num_free_blocks: Blocks that hold nothing.
        num_cached_blocks: Blocks nobody holds that are still reusable, and those that pay for a
            standing cache.
        num_shared_blocks: Blocks held by more than one agent.
        num_running_blocks: Blocks held by sequences that generate.
        num_withheld_blocks: Blocks that are kept free because there is no memory for them now.
        num_evictions: Agents evicted so far.
        num_evicted_blocks: Slots of blocks that left memory so far although they were reusable.
        bytes_used: Bytes of all blocks that are not free.
        bytes_budget: Bytes of the whole pool.
        block_states: See above.
        block_owners: See above.
        block_tiers: See above.
    """

    block_tokens: int = 256
    block_bytes: int = 0
    num_total_blocks: int = 0
    num_free_blocks: int = 0
    num_cached_blocks: int = 0
    num_shared_blocks: int = 0
    num_running_blocks: int = 0
    num_withheld_blocks: int = 0
    num_evictions: int = 0
    num_evicted_blocks: int = 0
    bytes_used: int = 0
    bytes_budget: int = 0
    block_states: bytes = b""
    block_owners: bytes = b""
    block_tiers: bytes = b""

    @property
    def num_held_blocks(self) -> int:
        """Blocks that somebody holds."""
        return self.num_total_blocks - self.num_free_blocks - self.num_cached_blocks

    @property
    def use(self) -> float:
        """Share of the pool that somebody holds, 0-1; to a thousandth, so that noise is no news."""
        total = self.num_total_blocks
        return round(self.num_held_blocks / total, 3) if total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """One block of the pool, as far as the map does not tell; asked for, never in a snapshot.

    Attributes:
        block_id: Its place in the map.
        block_hash: Identity of its content in hexadecimal digits; empty while it has none: it is
            free, or a running sequence writes into it.
        num_tokens: Tokens it covers; 0 where its content is not sealed yet.
        num_slots: Places in the map that it takes: a checkpoint takes several.
        is_on_disk: Whether its content is on disk too.
        owners: Names of agents that hold it, most recently active first; no more than a few.
        num_owners: How many agents hold it.
        idle_s: Seconds since the last turn of an agent that holds it ended, 0 while one is in
            progress; None where nobody holds it.
    """

    block_id: int
    block_hash: str = ""
    num_tokens: int = 0
    num_slots: int = 1
    is_on_disk: bool = False
    owners: tuple[str, ...] = ()
    num_owners: int = 0
    idle_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRow:
    """The warm tier: blocks on disk.

    Attributes:
        is_on: Whether blocks are being written.
        reason_off: Why not, in words; empty when on, or when none was asked for.
        bytes_used: Bytes of all block files.
        bytes_budget: What they may take together; 0 when there is no warm tier.
        num_blocks: Block files.
        num_pending: Blocks that wait to be written.
        num_quarantined: Files that were set aside since the start because they were not what was
            written.
        num_evicted_blocks: Blocks removed for room since the start.
        write_durations: How long blocks took to be durable.
    """

    is_on: bool = False
    reason_off: str = ""
    bytes_used: int = 0
    bytes_budget: int = 0
    num_blocks: int = 0
    num_pending: int = 0
    num_quarantined: int = 0
    num_evicted_blocks: int = 0
    write_durations: DurationsRow = field(default_factory=DurationsRow)
