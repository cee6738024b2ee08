"""The warm tier: blocks on disk behind one thread, so that the engine never waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.cache.disk.disk_thread import DiskThread
from engine.cache.disk.outage import Outage
from engine.cache.disk.quarantine import Note
from engine.cache.disk.records import AgentRecord, BlockRecord, DiskStats, KVSpace
from engine.cache.disk.store import BlockStore
from engine.cache.disk.work_queue import (
    AgentSaved,
    BlocksRead,
    ForgetAgent,
    ReadBlocks,
    SaveAgent,
    TouchBlocks,
    WorkQueue,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskLimits:
    """Bounds of the tier.

    Attributes:
        budget_bytes: What all block files may take together.
        max_pending_bytes: Bytes of blocks that may wait in memory to be written.
        retry_s: After a refusal, when to try again first; doubles with every further one.
        max_retry_s: And not beyond this.
    """

    budget_bytes: int
    max_pending_bytes: int = 256 << 20
    retry_s: float = 1.0
    max_retry_s: float = 60.0


class DiskTier:
    """Keeps blocks and agents on disk and brings them back.

    ``open`` and ``close`` wait; every other method returns at once and may be called from any
    thread. Callbacks and events come on the tier's own thread (or, once it is closed, on the
    caller's) and must not raise or block.

    What the disk does wrong never reaches a caller: a block that cannot be read, or is not what
    was written, is a miss and an event. When the disk takes nothing, writing pauses with one
    event, goes on by itself, and says so.
    """

    def __init__(
        self,
        folder: Path,
        space: KVSpace,
        limits: DiskLimits,
        note: Note,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Names everything; nothing is touched before ``open``.

        Args:
            folder: The data folder.
            space: The model and KV format that the blocks are of.
            limits: Its bounds.
            note: Takes events: kind, text and level.
            clock: Wall-clock seconds.
        """
        self._limits = limits
        self._queue = WorkQueue(limits.max_pending_bytes)
        self._thread = DiskThread(
            lambda: BlockStore(folder, space, limits.budget_bytes, note, clock),
            self._queue,
            Outage(note, limits.retry_s, limits.max_retry_s),
        )

    def open(self) -> tuple[AgentRecord, ...]:
        """Starts the thread, locks the folder, reads the index and checks it against the files.

        Returns:
            The agents whose caches are here for this model and KV format. Empty when the disk
            refuses; then the tier keeps trying, and blocks become available when it succeeds.

        Raises:
            DataFolderInUseError: Another process has the folder.
        """
        self._thread.start()
        return self._thread.opened.result()

    def has(self, block_hash: bytes) -> bool:
        """Whether a block is durably on disk."""
        return block_hash in self._thread.store.index

    def can_read(self, block_hash: bytes) -> bool:
        """Whether ``read`` would look for a block: it is on disk, or on its way there."""
        return block_hash in self._thread.store.index or self._queue.has_block(block_hash)

    def write(self, record: BlockRecord) -> bool:
        """Queues a block to be written.

        Returns:
            False when it was not taken, because too many bytes wait already or writing is off:
            it stays the caller's to offer again. True when it is queued, or on disk.
        """
        if self.can_read(record.block_hash):
            return True
        return not self._thread.reason_off and self._queue.put_block(record)

    def read(self, block_hashes: Sequence[bytes], done: BlocksRead) -> None:
        """Reads and verifies a chain of blocks, ahead of all writes.

        Args:
            block_hashes: The blocks, in order.
            done: Called once with those that could be read, up to the first that could not.
        """
        if not self._queue.put_read(ReadBlocks(tuple(block_hashes), done)):
            done(())

    def touch(self, block_hashes: Sequence[bytes]) -> None:
        """Marks blocks as used now, for those whose copy in memory was used."""
        self._queue.put(TouchBlocks(tuple(block_hashes)))

    def save_agent(self, record: AgentRecord, saved: AgentSaved | None = None) -> None:
        """Saves an agent after all blocks that were queued before it.

        A later save of the same agent may take the place of one that still waits.

        Args:
            record: The agent.
            saved: Called when it is durable together with every block its table names, with the
                record as it is on disk: cut before the first block that is not there. Not called
                for a save whose place was taken, or that did not happen before ``close``.
        """
        self._queue.put(SaveAgent(record, saved))

    def forget_agent(self, agent_id: str) -> None:
        """Forgets an agent. Its blocks stay until others need the room."""
        self._queue.put(ForgetAgent(agent_id))

    @property
    def stats(self) -> DiskStats:
        """Its numbers now."""
        store = self._thread.store
        return DiskStats(
            is_on=not self._thread.reason_off,
            reason_off=self._thread.reason_off,
            bytes_used=store.index.num_bytes,
            budget_bytes=self._limits.budget_bytes,
            num_blocks=len(store.index),
            num_pending=self._queue.num_blocks,
            pending_bytes=self._queue.num_bytes,
            num_quarantined=store.num_quarantined,
            num_evicted=store.num_evicted,
        )

    def close(self, flush_s: float) -> bool:
        """Writes what is queued, for a limited time, and lets the folder go.

        Args:
            flush_s: Seconds for the queue. A write under way at the end is not cut short.

        Returns:
            Whether everything that was queued is on disk.
        """
        return self._thread.finish(flush_s)
