"""Reads, verifies, writes and removes the block files of one model."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.cache.disk.block_file import block_path, decode, encode
from engine.cache.disk.block_index import BlockEntry, BlockIndex
from engine.cache.disk.durable import (
    Buffer,
    UntrustedFileError,
    make_folder,
    open_trusted,
    read_up_to,
    write_durably,
)
from engine.cache.disk.quarantine import Note, Quarantine
from engine.cache.disk.records import BlockRecord, KVSpace
from engine.errors import StokerError

_OUR_OWN_SHORTAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class DiskRefusedError(StokerError):
    """The disk takes nothing now: full, read-only, failing; the message says which."""


def describe(error: OSError | sqlite3.Error | MemoryError) -> str:
    """An error in words, without paths."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    return getattr(error, "strerror", None) or str(error)


class BlockFiles:
    """The files behind an index. Belongs to one thread."""

    def __init__(
        self,
        kv_folder: Path,
        space: KVSpace,
        index: BlockIndex,
        quarantine: Quarantine,
        note: Note,
        clock: Callable[[], float],
    ) -> None:
        """Wires the parts.

        Args:
            kv_folder: The folder of all spaces.
            space: The model and KV format to read and write for.
            index: Kept in agreement with the files.
            quarantine: Takes files that fail a check.
            note: Takes events.
            clock: Wall-clock seconds.
        """
        self._kv_folder = kv_folder
        self._space = space
        self._index = index
        self._quarantine = quarantine
        self._note = note
        self._clock = clock

    def encode(self, record: BlockRecord) -> list[Buffer]:
        """The content of a block's file, in pieces."""
        return encode(record, self._space)

    def write(self, record: BlockRecord, content: list[Buffer]) -> None:
        """Makes a block durable.

        Args:
            record: The block.
            content: What ``encode`` made of it.

        Raises:
            DiskRefusedError: The disk refuses; nothing is left behind.
        """
        path = block_path(self._kv_folder, self._space.name, record.block_hash)
        try:
            make_folder(path.parent.parent)
            make_folder(path.parent)
            write_durably(path, content)
        except OSError as error:
            raise DiskRefusedError(describe(error)) from error
        entry = BlockEntry(
            space_name=self._space.name,
            parent_hash=record.parent_hash,
            num_tokens=len(record.token_ids),
            size_bytes=sum(memoryview(buffer).nbytes for buffer in content),
            last_use_time=self._clock(),
        )
        self._index.add(record.block_hash, entry)

    def read(
        self, block_hashes: Iterable[bytes], unwritten: Callable[[bytes], BlockRecord | None]
    ) -> tuple[BlockRecord, ...]:
        """Reads and verifies blocks, up to the first that is not there or not sound.

        Args:
            block_hashes: The blocks, in order.
            unwritten: Gives a block that is still in memory on its way to the disk.
        """
        records: list[BlockRecord] = []
        for block_hash in block_hashes:
            record = unwritten(block_hash) or self._read_one(block_hash)
            if record is None:
                break
            records.append(record)
        self._index.touch((record.block_hash for record in records), self._clock())
        return tuple(records)

    def _read_one(self, block_hash: bytes) -> BlockRecord | None:
        entry = self._index.entries.get(block_hash)
        if entry is None or entry.space_name != self._space.name:
            return None
        path = block_path(self._kv_folder, entry.space_name, block_hash)
        try:
            record, space = decode(_read_file(path, entry.size_bytes))
            self._check(record, space, block_hash)
        except FileNotFoundError:
            self._index.drop(block_hash)
            self._note_miss(block_hash, "it vanished from the disk")
        except UntrustedFileError as error:
            self.set_aside(block_hash, str(error))
        except (OSError, MemoryError) as error:
            self._fail(block_hash, error)
        else:
            return record
        return None

    def _check(self, record: BlockRecord, space: KVSpace, block_hash: bytes) -> None:
        if space != self._space:
            raise UntrustedFileError("it belongs to another model or KV format")
        if record.block_hash != block_hash:
            raise UntrustedFileError("its name is not the hash of its tokens")

    def _fail(self, block_hash: bytes, error: OSError | MemoryError) -> None:
        if isinstance(error, OSError) and error.errno not in _OUR_OWN_SHORTAGE:
            self.set_aside(block_hash, f"it cannot be read ({describe(error)})")
        else:
            self._note_miss(block_hash, describe(error))

    def set_aside(self, block_hash: bytes, reason: str) -> None:
        """Quarantines a block's file; an event tells, even where it was not written yet.

        Args:
            block_hash: A block of this model.
            reason: What was found, in words that follow the file's name.
        """
        self._index.drop(block_hash)
        path = block_path(self._kv_folder, self._space.name, block_hash)
        self._quarantine.take(path, reason)

    def _note_miss(self, block_hash: bytes, reason: str) -> None:
        self._note("miss", f"block {block_hash.hex()[:12]} was not read: {reason}", "warning")

    def remove(self, block_hashes: Iterable[bytes]) -> int:
        """Removes blocks of any space.

        A crash may leave a file without a row or a row without a file; the next start finds both.

        Returns:
            Bytes that are free now.
        """
        num_bytes = 0
        for block_hash in block_hashes:
            entry = self._index.drop(block_hash)
            if entry is None:
                continue
            with contextlib.suppress(OSError):
                os.unlink(block_path(self._kv_folder, entry.space_name, block_hash))
            num_bytes += entry.size_bytes
        return num_bytes


def _read_file(path: Path, expected_bytes: int) -> bytes:
    fd, state = open_trusted(path)
    try:
        if state.st_size != expected_bytes:
            raise UntrustedFileError(f"it has {state.st_size} bytes, not {expected_bytes}")
        return read_up_to(fd, expected_bytes)
    finally:
        os.close(fd)
