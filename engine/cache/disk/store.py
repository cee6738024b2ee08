"""The block store without its thread: every call works on the disk and returns when it is done."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from engine.cache.disk.block_files import BlockFiles, DiskRefusedError, describe
from engine.cache.disk.block_index import AgentKey, BlockEntry, BlockIndex
from engine.cache.disk.durable import UntrustedFileError, make_folder
from engine.cache.disk.folder_lock import FolderHold, FolderLock
from engine.cache.disk.index_database import DATABASE_FILES, IndexDatabase, is_damage
from engine.cache.disk.quarantine import Note, Quarantine
from engine.cache.disk.records import AgentRecord, BlockRecord, KVSpace
from engine.cache.disk.sweep import sweep
from engine.errors import StokerError

KV_FOLDER = "kv"
QUARANTINE_FOLDER = "quarantine"

_SPARE_SHARE = 50
"""One part in so many of the budget is freed beyond need, so that not every block asks again."""


class BlockStore:
    """Blocks and agents on disk, for one process. Belongs to one thread.

    The budget covers the block files of all models in the folder: disk space is one thing, and a
    model that is not active must not hold it forever.
    """

    def __init__(
        self,
        folder: Path,
        space: KVSpace,
        budget_bytes: int,
        note: Note,
        clock: Callable[[], float] = time.time,
        lock: FolderLock | None = None,
    ) -> None:
        """Names everything and touches nothing yet.

        Args:
            folder: The data folder.
            space: The model and KV format to read and write for.
            budget_bytes: What all block files may take together.
            note: Takes events.
            clock: Wall-clock seconds.
            lock: The folder's lock, where others of this process hold it too.
        """
        self.index = BlockIndex()
        self.num_evicted = 0
        self._folder = folder
        self._kv_folder = folder / KV_FOLDER
        self._space = space
        self._budget_bytes = budget_bytes
        self._note = note
        self._clock = clock
        self._lock = FolderHold(lock or FolderLock(folder))
        self._quarantine = Quarantine(folder / QUARANTINE_FOLDER, note, clock=clock)
        self._files = BlockFiles(self._kv_folder, space, self.index, self._quarantine, note, clock)
        self._database: IndexDatabase | None = None
        self._old_tails: list[bytes] = []
        self._unwanted: list[bytes] = []
        self._has_noted_refusal = False

    @property
    def num_quarantined(self) -> int:
        """Files set aside so far."""
        return self._quarantine.num_taken

    # Opening and closing

    def open(self) -> tuple[AgentRecord, ...]:
        """Locks the folder, reads the index, puts folders and index in agreement.

        Returns:
            The agents of this store's space, each cut before its first missing block.

        Raises:
            DataFolderInUseError: Another process has the folder.
            DiskRefusedError: The disk refuses; nothing stays locked.
        """
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise DiskRefusedError(describe(error)) from error
        except StokerError:
            self.close()
            raise
        name = self._space.name
        return tuple(r for key, r in self.index.agents.items() if key[0] == name)

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        make_folder(self._kv_folder)
        os.chmod(self._kv_folder, 0o700)
        self._database, blocks, agents = self._open_database()
        found = sweep(self._kv_folder, blocks)
        self.index.load(blocks, agents)
        for block_hash in blocks.keys() - found.known.keys():
            self.index.drop(block_hash)
        for block_hash, entry in found.adopted.items():
            self.index.add(block_hash, entry)
        for path, reason in found.rejected:
            self._quarantine.take(path, reason)
        self._cut_agents()
        self._make_room(0)
        self.save()

    def _open_database(
        self,
    ) -> tuple[IndexDatabase, dict[bytes, BlockEntry], dict[AgentKey, AgentRecord]]:
        try:
            database = IndexDatabase(self._folder)
            try:
                return database, *database.read()
            except (UntrustedFileError, sqlite3.Error):
                database.close()
                raise
        except UntrustedFileError as error:
            self._set_database_aside(str(error))
        try:
            return IndexDatabase(self._folder), {}, {}
        except UntrustedFileError as error:
            raise DiskRefusedError(str(error)) from error

    def _set_database_aside(self, reason: str) -> None:
        for name in DATABASE_FILES:
            path = self._folder / name
            if os.path.lexists(path) and not self._quarantine.take(path, reason):
                raise OSError(errno.EACCES, f"cannot move {name} away")
        self._note("rebuild", "the index of the disk tier is rebuilt from its files", "warning")

    def _cut_agents(self) -> None:
        """Cuts every agent's table before the first block that is not there."""
        for key, record in list(self.index.agents.items()):
            whole = self.index.whole_part(record, self._root_hash(key[0], record))
            if whole is not record:
                self.index.put_agent(key, whole)

    def _root_hash(self, space_name: str, record: AgentRecord) -> bytes:
        if space_name == self._space.name:
            return self._space.root_hash_of(record.namespace)
        # Another space's root is not known here; it is what its own first blocks follow.
        first = self.index.entries.get(record.block_hashes[0]) if record.block_hashes else None
        return first.parent_hash if first and first.space_name == space_name else b""

    def close(self) -> None:
        """Closes the index and lets the folder go; what is unsaved is lost."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._lock.release()

    # Blocks and agents

    def write_block(self, record: BlockRecord) -> bool:
        """Makes a block durable; one that is there already is only touched.

        Returns:
            False when the budget has no room for it.

        Raises:
            DiskRefusedError: The disk refuses.
        """
        if record.block_hash in self.index:
            self.index.touch([record.block_hash], self._clock())
            return True
        content = self._files.encode(record)
        if not self._make_room(sum(memoryview(buffer).nbytes for buffer in content)):
            return False
        self._files.write(record, content)
        return True

    def read_blocks(
        self,
        block_hashes: Iterable[bytes],
        unwritten: Callable[[bytes], BlockRecord | None] = lambda _: None,
    ) -> tuple[BlockRecord, ...]:
        """Reads and verifies blocks, up to the first that is not there or not sound.

        Args:
            block_hashes: The blocks, in order.
            unwritten: Gives a block that is still in memory on its way to the disk.
        """
        return self._files.read(block_hashes, unwritten)

    def touch(self, block_hashes: Iterable[bytes]) -> None:
        """Makes blocks the most recently used ones."""
        self.index.touch(block_hashes, self._clock())

    def save_agent(self, record: AgentRecord) -> AgentRecord:
        """Records an agent with as much of its table as is on disk; ``save`` makes it durable.

        Returns:
            The record as it will be saved.
        """
        key = (self._space.name, record.namespace, record.agent_id)
        whole = self.index.whole_part(record, self._space.root_hash_of(record.namespace))
        old = self.index.agents.get(key)
        self.index.put_agent(key, whole)
        self.index.touch(whole.block_hashes, self._clock())
        if old is not None:
            self._old_tails += (*old.block_hashes[-1:], *old.checkpoint_hashes)
        return whole

    def forget_agent(
        self, agent_id: str, unwanted: Sequence[bytes] = (), namespace: str = ""
    ) -> None:
        """Forgets an agent, for every model; its full blocks stay until others need the room.

        Args:
            agent_id: The agent.
            unwanted: Blocks that ``save`` removes, but for those that other agents refer to or
                that other blocks follow; each after the one it follows.
            namespace: Whose agent it is.
        """
        for key in [key for key in self.index.agents if key[1:] == (namespace, agent_id)]:
            old = self.index.drop_agent(key)
            if old is not None:
                self._old_tails += (*old.block_hashes[-1:], *old.checkpoint_hashes)
        self._unwanted += unwanted

    def forget_blocks(self, block_hashes: Sequence[bytes], *, with_followers: bool = False) -> None:
        """Removes blocks whose content must not be used; ``save`` makes it durable.

        Args:
            block_hashes: The blocks.
            with_followers: Whether to remove as well what follows any of them.
        """
        followers = self.index.followers(block_hashes) if with_followers else ()
        self._files.remove((*block_hashes, *followers))

    def set_aside(self, block_hashes: Iterable[bytes], reason: str) -> None:
        """Quarantines blocks whose files were made by somebody else.

        Args:
            block_hashes: The blocks, of this store's space.
            reason: What was found, in words that follow the file's name.
        """
        for block_hash in block_hashes:
            self._files.set_aside(block_hash, reason)

    @property
    def has_unsaved(self) -> bool:
        """Whether ``save`` has something to do."""
        return bool(self.index.unsaved_blocks or self.index.unsaved_agents or self._unwanted)

    def save(self) -> None:
        """Makes everything that was recorded durable.

        Raises:
            DiskRefusedError: The disk refuses; all of it is still to be saved.
        """
        if not self.has_unsaved:
            return
        try:
            self._save()
        except (OSError, sqlite3.Error) as error:
            raise DiskRefusedError(describe(error)) from error
        except UntrustedFileError as error:
            raise DiskRefusedError(str(error)) from error
        # Only now: until here the saved row of the agent referred to its old tail.
        garbage = [tail for tail in self._old_tails if self.index.is_garbage(tail)]
        unwanted = self.index.unneeded(self._unwanted)
        self._old_tails, self._unwanted = [], []
        self._files.remove([*garbage, *unwanted])

    def _save(self) -> None:
        try:
            (self._database or self._new_database()).save(self.index)
        except sqlite3.DatabaseError as error:
            if not is_damage(error) or self._database is None:
                raise
            self._database.close()
            self._database = None
            self._set_database_aside(f"it is damaged ({error})")
            self._new_database().save(self.index)

    def _new_database(self) -> IndexDatabase:
        """A database in place of one that was lost; everything is to be saved again."""
        self._database = IndexDatabase(self._folder)
        self.index.mark_unsaved()
        return self._database

    def _make_room(self, num_more_bytes: int) -> bool:
        """Removes the blocks that matter least until as many more bytes fit the budget."""
        num_over = self.index.num_bytes + num_more_bytes - self._budget_bytes
        if num_over <= 0:
            self._has_noted_refusal = False
            return True
        spare_bytes = self._budget_bytes // _SPARE_SHARE
        victims = self.index.victims(num_over, spare_bytes, self._clock())
        if victims:
            num_mb = self._files.remove(victims) >> 20
            self.num_evicted += len(victims)
            text = f"disk: {len(victims)} blocks, {num_mb} MB (oldest, over budget)"
            self._note("evict", text, "info")
        elif not self._has_noted_refusal:
            self._has_noted_refusal = True
            text = f"pinned agents hold the disk budget of {self._budget_bytes >> 20} MB"
            self._note("disk", f"{text}: new blocks stay in memory", "warning")
        return bool(victims)
