"""Files that are either whole and on the platter, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.errors import StokerError

TEMP_PREFIX = ".tmp-"
"""Beginning of the names of files that are being written."""

_BUFFERS_PER_WRITE = 512  # POSIX guarantees 16; Linux and macOS take 1024
_BYTES_PER_READ = 1 << 30  # one read() gives at most 2 GB on Linux and macOS

Buffer = bytes | memoryview


class UntrustedFileError(StokerError):
    """A file is not what was written here; the message says why."""


def sync(fd: int) -> None:
    """Waits until what was written is on the platter, not only in the drive's own cache."""
    if sys.platform == "darwin":
        # fsync() on macOS stops at the drive; not every file system knows the stronger call.
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Makes renames, new files and removals in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Makes a private folder durably, if it is not there; its parent must be.

    Raises:
        OSError: It cannot be made, or something else has its name.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise
    else:
        sync_folder(folder.parent)


def write_durably(path: Path, buffers: Sequence[Buffer]) -> None:
    """Writes a private file in one piece: after a crash it is whole or absent.

    Args:
        path: Where; its folder must exist.
        buffers: Its content, in order.

    Raises:
        OSError: It could not be written; nothing is left behind.
    """
    write_parts_durably(path, [buffers])


def write_parts_durably(path: Path, parts: Iterable[Sequence[Buffer]]) -> None:
    """Writes a private file in one piece from parts that are made while it is written.

    Args:
        path: Where; its folder must exist.
        parts: Its content, in order. Whatever making them raises leaves no file behind.

    Raises:
        OSError: It could not be written; nothing is left behind.
    """
    temp = path.with_name(f"{TEMP_PREFIX}{path.name}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temp)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temp, flags, 0o600)
    try:
        try:
            for buffers in parts:
                _write_all(fd, buffers)
            sync(fd)
        finally:
            os.close(fd)
        os.rename(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp)
        raise
    sync_folder(path.parent)


def _write_all(fd: int, buffers: Sequence[Buffer]) -> None:
    views = [memoryview(buffer) for buffer in buffers]
    pending = [view.cast("B") for view in reversed(views) if view.nbytes]
    while pending:
        batch = pending[: -_BUFFERS_PER_WRITE - 1 : -1]
        num_written = os.writev(fd, batch)
        if num_written == 0:
            raise OSError(errno.EIO, "the file system took no bytes")
        while pending and num_written >= len(pending[-1]):
            num_written -= len(pending.pop())
        if num_written:
            pending[-1] = pending[-1][num_written:]


def open_trusted(path: Path) -> tuple[int, os.stat_result]:
    """Opens a file for reading if only we can have written it.

    Returns:
        The descriptor, which the caller closes, and its state.

    Raises:
        UntrustedFileError: It is a link or no regular file, or others own it or may write it.
        OSError: It is not there or cannot be opened.
    """
    # O_NONBLOCK, because opening a pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise UntrustedFileError("it is a symbolic link") from None
        raise
    try:
        state = os.fstat(fd)
        check_trusted(state)
    except BaseException:
        os.close(fd)
        raise
    return fd, state


def check_trusted(state: os.stat_result) -> None:
    """Refuses what others own, may write, or what is no regular file.

    Raises:
        UntrustedFileError: The message says which.
    """
    if not stat.S_ISREG(state.st_mode):
        raise UntrustedFileError("it is not a regular file")
    if state.st_uid != os.geteuid():
        raise UntrustedFileError("it belongs to another user")
    if state.st_mode & 0o022:
        raise UntrustedFileError("other users may write it")


def read_up_to(fd: int, num_bytes: int) -> bytes:
    """Reads from the start of a file; fewer bytes come back only where it ends.

    Raises:
        OSError: The device failed.
    """
    parts: list[bytes] = []
    num_missing = num_bytes
    while num_missing > 0:
        part = os.pread(fd, min(num_missing, _BYTES_PER_READ), num_bytes - num_missing)
        if not part:
            break
        parts.append(part)
        num_missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
