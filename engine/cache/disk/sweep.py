"""What lies in the block folders, against what the index says lies there."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.cache.disk.block_file import (
    MAX_HEADER_BYTES,
    header_bytes,
    parse_file_name,
    parse_header,
)
from engine.cache.disk.block_index import BlockEntry
from engine.cache.disk.durable import (
    TEMP_PREFIX,
    UntrustedFileError,
    open_trusted,
    read_up_to,
)

_SPACE_NAME = re.compile(r"[0-9a-f]{16}")
_SHARD_NAME = re.compile(r"[0-9a-f]{2}")
_FIRST_READ_BYTES = 32 << 10


@dataclass(slots=True)
class Sweep:
    """What a sweep found.

    Attributes:
        known: Blocks that the index knows and whose file has the right size.
        adopted: Blocks whose file the index did not know, and whose header is sound.
        rejected: Files that do not belong there, with the reason.
        num_temps: Files of interrupted writes that were removed.
    """

    known: dict[bytes, BlockEntry] = field(default_factory=dict)
    adopted: dict[bytes, BlockEntry] = field(default_factory=dict)
    rejected: list[tuple[Path, str]] = field(default_factory=list)
    num_temps: int = 0


def sweep(kv_folder: Path, indexed: Mapping[bytes, BlockEntry]) -> Sweep:
    """Looks at every file in the block folders of all models.

    A file that the index knows costs one stat; another one has its header read. Data is verified
    when it is read, not here. Nothing may be written meanwhile.

    Args:
        kv_folder: The folder of all spaces.
        indexed: What the index knows.

    Raises:
        OSError: A folder cannot be listed.
    """
    found = Sweep()
    for space_name, shard, entry in _files(kv_folder, found):
        path = Path(entry.path)
        if entry.name.startswith(TEMP_PREFIX):
            with contextlib.suppress(OSError):
                os.unlink(path)
                found.num_temps += 1
            continue
        try:
            _sort_in(found, indexed, space_name, shard, entry)
        except UntrustedFileError as error:
            found.rejected.append((path, str(error)))
        except OSError as error:
            found.rejected.append((path, f"it cannot be read ({error.strerror})"))
    return found


def _files(kv_folder: Path, found: Sweep) -> Iterator[tuple[str, str, os.DirEntry[str]]]:
    for space in _folders(kv_folder, _SPACE_NAME, found):
        for shard in _folders(Path(space.path), _SHARD_NAME, found):
            with os.scandir(shard.path) as entries:
                for entry in entries:
                    yield space.name, shard.name, entry


def _folders(
    folder: Path, name_pattern: re.Pattern[str], found: Sweep
) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            # Names that are not ours are left alone: nothing will ever look for them.
            if not name_pattern.fullmatch(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield entry
            else:
                found.rejected.append((Path(entry.path), "it is not a folder"))


def _sort_in(
    found: Sweep,
    indexed: Mapping[bytes, BlockEntry],
    space_name: str,
    shard: str,
    entry: os.DirEntry[str],
) -> None:
    block_hash = parse_file_name(entry.name)
    if block_hash is None or not entry.name.startswith(shard):
        raise UntrustedFileError("it is not named like a block of this folder")
    state = entry.stat(follow_symlinks=False)
    row = indexed.get(block_hash)
    is_known = row is not None and (row.space_name, row.size_bytes) == (space_name, state.st_size)
    if row is not None and is_known and stat.S_ISREG(state.st_mode):
        found.known[block_hash] = row
    else:
        found.adopted[block_hash] = read_entry(Path(entry.path), space_name, block_hash)


def read_entry(path: Path, space_name: str, block_hash: bytes) -> BlockEntry:
    """An index entry from a block file's own header.

    Raises:
        UntrustedFileError: It is not the block that its name and folder promise.
        OSError: It cannot be read.
    """
    fd, state = open_trusted(path)
    try:
        head = read_up_to(fd, min(state.st_size, _FIRST_READ_BYTES))
        num_bytes = header_bytes(head, state.st_size)
        if num_bytes > len(head):
            head = read_up_to(fd, min(num_bytes, MAX_HEADER_BYTES))
    finally:
        os.close(fd)
    header = parse_header(head, state.st_size)
    if header.space.name != space_name:
        raise UntrustedFileError("it belongs to another model or KV format")
    if header.block_hash != block_hash:
        raise UntrustedFileError("its name is not the hash of its tokens")
    return BlockEntry(
        space_name=space_name,
        parent_hash=header.parent_hash,
        num_tokens=len(header.token_ids),
        size_bytes=state.st_size,
        last_use_time=state.st_mtime,
    )
