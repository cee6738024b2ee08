"""Writes agents from the tier into archives, and takes archives into the tier."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.cache.disk.archive import ArchiveReader, archive_parts
from engine.cache.disk.archived_agent import ArchivedAgent
from engine.cache.disk.archived_turns import Chain
from engine.cache.disk.block_files import describe
from engine.cache.disk.durable import write_parts_durably
from engine.cache.disk.records import AgentRecord, BlockRecord, DiskStats, KVSpace
from engine.cache.disk.work_queue import BlocksRead
from engine.errors import ArchiveError, ForeignArchiveError, NoDiskTierError

OVERHEAD_BYTES = 64 << 20
"""So much longer than the disk budget may an archive be; the rest of it are blocks."""

_RETRY_S = 0.01


class BlockPlace(Protocol):
    """Where blocks come from and go to; the tier is one."""

    def read(self, block_hashes: Sequence[bytes], done: BlocksRead) -> None:
        """Reads a chain of blocks and hands over those up to the first that is missing."""

    def write(self, record: BlockRecord) -> bool:
        """Queues a block to be written; False when it was not taken now."""

    @property
    def stats(self) -> DiskStats:
        """Its numbers now."""


class Archives:
    """Files with agents in them. Its methods wait for the disk, on the caller's thread."""

    def __init__(self, place: BlockPlace, space: KVSpace, model_id: str) -> None:
        """Wires the parts.

        Args:
            place: Where blocks come from and go to.
            space: The model and KV format of its blocks.
            model_id: Name of the model, for people.
        """
        self._place = place
        self._space = space
        self._model_id = model_id

    def write(self, record: AgentRecord, path: Path) -> int:
        """Writes an agent whose table is on disk into a file of its own.

        Args:
            record: The agent.
            path: The file; it appears when it is complete, and takes the place of one that is
                there. Folders that are missing are made.

        Returns:
            Length of the file in bytes.

        Raises:
            ArchiveError: A block is gone from the disk, or the file cannot be written.
        """
        found = self._checkpoints(record)
        agent = ArchivedAgent(
            record=record, space=self._space, model_id=self._model_id, checkpoints=found
        )
        blocks = self._read_all([*record.block_hashes, *found])
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_parts_durably(path, archive_parts(agent, blocks))
            return path.stat().st_size
        except OSError as error:
            raise ArchiveError(f"cannot write {path.name}: {describe(error)}") from error

    def _checkpoints(self, record: AgentRecord) -> tuple[bytes, ...]:
        """Those checkpoints that are still there and follow what the table holds."""
        parents = {self._space.root_hash_of(record.namespace), *record.block_hashes}
        found = map(self._read_one, record.checkpoint_hashes)
        return tuple(b.block_hash for b in found if b is not None and b.parent_hash in parents)

    def _read_all(self, block_hashes: Iterable[bytes]) -> Iterator[BlockRecord]:
        for name in block_hashes:
            block = self._read_one(name)
            if block is None:
                raise ArchiveError("a block of the agent is gone from the disk; give it a turn")
            yield block

    def _read_one(self, name: bytes) -> BlockRecord | None:
        answer: Future[tuple[BlockRecord, ...]] = Future()
        self._place.read([name], answer.set_result)
        return next(iter(answer.result()), None)

    def take_in(self, path: Path, *, namespace: str = "") -> AgentRecord:
        """Verifies all of a file, then hands its blocks to the disk.

        The file is read twice: nothing of it is kept before all of it was found sound.

        Args:
            path: An archive, from anywhere.
            namespace: Whose agent it becomes.

        Returns:
            The agent. Its blocks are on disk or on their way; nothing refers to them yet.

        Raises:
            ForeignArchiveError: It was made with another model or KV format.
            ArchiveError: It is not a sound archive, cannot be read, or does not fit the budget.
            NoDiskTierError: The disk takes nothing now.
        """
        try:
            with self._opened(path) as file:
                for _ in self._reader(file).blocks():
                    pass
                file.seek(0)
                return self._keep(self._reader(file), namespace)
        except OSError as error:
            raise ArchiveError(f"cannot read {path.name}: {describe(error)}") from error

    @contextmanager
    def _opened(self, path: Path) -> Iterator[BinaryIO]:
        # O_NONBLOCK, because opening a pipe would wait for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ArchiveError(f"{path.name} is not a regular file")
            yield file

    def _reader(self, file: BinaryIO) -> ArchiveReader:
        num_bytes = os.fstat(file.fileno()).st_size
        budget_bytes = self._place.stats.budget_bytes
        if num_bytes > budget_bytes + OVERHEAD_BYTES:
            raise ArchiveError(
                f"the archive has {num_bytes / 1e6:.0f} MB and the disk budget is "
                f"{budget_bytes / 1e6:.0f} MB; raise kv_disk_bytes"
            )
        reader = ArchiveReader(file, num_bytes)
        theirs = reader.agent
        if theirs.space != self._space:
            ours = replace(theirs, space=self._space, model_id=self._model_id)
            raise ForeignArchiveError(theirs.model_words, ours.model_words)
        return reader

    def _keep(self, reader: ArchiveReader, namespace: str) -> AgentRecord:
        record = reader.agent.record
        chain = Chain(reader.agent.root_hash, self._space.root_hash_of(namespace))
        table = set(record.block_hashes)
        for block in reader.blocks():
            self._hand_over(chain.add(block, in_table=block.block_hash in table))
        return replace(
            record,
            namespace=namespace,
            block_hashes=tuple(chain.names[name] for name in record.block_hashes),
            turns=chain.marks(record.turns),
        )

    def _hand_over(self, block: BlockRecord) -> None:
        while not self._place.write(block):
            reason_off = self._place.stats.reason_off
            if reason_off:
                raise NoDiskTierError("import an agent", reason_off)
            # The queue is full; the disk makes room in it.
            time.sleep(_RETRY_S)
