"""The warm tier: blocks on disk behind one thread, so that the engine never waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.archives import Archives
from engine.cache.disk.disk_thread import DiskThread, Recovered, nobody
from engine.cache.disk.folder_lock import FolderLock
from engine.cache.disk.foreign import ForeignAgent, foreign_agents, is_of
from engine.cache.disk.outage import Outage
from engine.cache.disk.quarantine import Note
from engine.cache.disk.records import AgentRecord, BlockRecord, DiskStats, KVSpace
from engine.cache.disk.store import BlockStore
from engine.cache.disk.work_queue import (
    AgentSaved,
    BlocksRead,
    ForgetAgent,
    ForgetBlocks,
    ReadBlocks,
    SaveAgent,
    TouchBlocks,
    WorkQueue,
)
from engine.cache.quantisation import KVQuantisation


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

    Attributes:
        space: The model and KV format that its blocks are of.
        archives: Files that agents travel in.
        on_recovered: Called on the tier's thread when an outage is over; with the agents that were
            found, where the folder could not be opened before.
        foreign: By namespace and id, agents that another model or format had a cache of when it was
            opened.
    """

    def __init__(
        self,
        folder: Path,
        space: KVSpace,
        limits: DiskLimits,
        note: Note,
        clock: Callable[[], float] = time.time,
        *,
        model_id: str = "",
        lock: FolderLock | None = None,
    ) -> None:
        """Names everything; nothing is touched before ``open``.

        Args:
            folder: The data folder.
            space: The model and KV format that the blocks are of.
            limits: Its bounds.
            note: Takes events: kind, text and level.
            clock: Wall-clock seconds.
            model_id: Name of the model, for people.
            lock: The folder's lock, where others of this process hold it too.
        """
        self.archives = Archives(self, space, model_id)
        self.space = space
        self.foreign: Mapping[tuple[str, str], ForeignAgent] = {}
        self.on_recovered: Recovered = nobody
        self._limits = limits
        self._queue = WorkQueue(limits.max_pending_bytes)
        self._thread = DiskThread(
            lambda: BlockStore(folder, space, limits.budget_bytes, note, clock, lock),
            self._queue,
            Outage(note, limits.retry_s, limits.max_retry_s),
        )
        self._thread.on_recovered = self._recovered

    def open(self) -> tuple[AgentRecord, ...]:
        """Starts the thread, locks the folder, reads the index and checks it against the files.

        Returns:
            The agents whose caches are here for this model and KV format. Empty when the disk
            refuses; then the tier keeps trying, and blocks become available when it succeeds.

        Raises:
            DataFolderInUseError: Another process has the folder.
        """
        self._thread.start()
        own = self._thread.opened.result()
        self._look_for_foreign_agents()
        return own

    def _look_for_foreign_agents(self) -> None:
        self.foreign = foreign_agents(self._thread.store.index.agents.values(), self.space)

    def _recovered(self, found: tuple[AgentRecord, ...]) -> None:
        if found:
            self._look_for_foreign_agents()
        self.on_recovered(found)

    def saved_for(
        self, fingerprint: str, quantisation: KVQuantisation | None
    ) -> dict[tuple[str, str], int]:
        """What is here for another model, or for this one in another format.

        Args:
            fingerprint: The model.
            quantisation: Its KV format; None for lossless.

        Returns:
            Tokens by namespace and id of the agent, as far as their blocks are on disk.
        """
        index = self._thread.store.index
        return {
            (record.namespace, record.agent_id): num_tokens
            for record in list(index.agents.values())
            if is_of(record, fingerprint, quantisation)
            and (num_tokens := _num_tokens(record, index.__contains__))
        }

    @property
    def is_full(self) -> bool:
        """Whether too many bytes wait already for another block to be taken."""
        return self._queue.is_full

    def has(self, block_hash: bytes) -> bool:
        """Whether a block is durably on disk."""
        is_forgotten = self._queue.is_forgetting(block_hash)
        return block_hash in self._thread.store.index and not is_forgotten

    def can_read(self, block_hash: bytes) -> bool:
        """Whether ``read`` would look for a block: it is on disk, or on its way there."""
        return self.has(block_hash) or self._queue.has_block(block_hash)

    def parent(self, block_hash: bytes) -> bytes | None:
        """Hash of the block before one that could be read; None if that one could not."""
        entry = self._thread.store.index.entries.get(block_hash)
        if entry is not None:
            return entry.parent_hash
        record = self._queue.block(block_hash)
        return record.parent_hash if record is not None else None

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

    def forget_blocks(self, block_hashes: Sequence[bytes], *, with_followers: bool = False) -> None:
        """Removes blocks whose content must not be used, written or not; none is found from now on.

        A block of the same name that is written later is another one.

        Args:
            block_hashes: The blocks.
            with_followers: Whether to remove as well what follows any of them.
        """
        self._queue.put_forget(ForgetBlocks(tuple(block_hashes), with_followers))

    def set_aside(self, block_hash: bytes, reason: str) -> None:
        """Quarantines a block that this model cannot have made; it is not found from now on.

        Args:
            block_hash: The block, as it was read.
            reason: What was found, in words that follow the file's name.
        """
        self._queue.put_forget(ForgetBlocks((block_hash,), distrust=reason))

    def forget_agent(
        self, agent_id: str, unwanted: Sequence[bytes] = (), namespace: str = ""
    ) -> None:
        """Forgets an agent. Its blocks stay until others need the room.

        Args:
            agent_id: The agent.
            unwanted: Blocks to remove at once, but for those that other agents' tables need; each
                after the one it follows.
            namespace: Whose agent it is.
        """
        self._queue.put(ForgetAgent(agent_id, tuple(unwanted), namespace))

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
            write_durations=self._thread.write_durations,
        )

    def close(self, flush_s: float) -> bool:
        """Writes what is queued, for a limited time, and lets the folder go.

        Args:
            flush_s: Seconds for the queue. A write under way at the end is not cut short.

        Returns:
            Whether everything that was queued is on disk.
        """
        return self._thread.finish(flush_s)


def _num_tokens(record: AgentRecord, is_here: Callable[[bytes], bool]) -> int:
    """Tokens of an agent's table whose blocks are there, from its beginning on."""
    num_here = sum(1 for _ in takewhile(is_here, record.block_hashes))
    is_whole = num_here == len(record.block_hashes)
    return record.num_tokens if is_whole else num_here * BLOCK_TOKENS
