"""One process per data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from engine.errors import DataFolderInUseError

LOCK_NAME = "stoker.lock"


class FolderLock:
    """Held from ``acquire`` until ``release`` or the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Prepares the lock of a folder, which must exist.

        Args:
            folder: The data folder.
        """
        self._folder = folder
        self._fd: int | None = None

    def acquire(self) -> None:
        """Takes the lock, at once or not at all.

        Raises:
            DataFolderInUseError: Another process has it.
            OSError: The lock file cannot be made.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._folder / LOCK_NAME, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read_pid(fd)
            os.close(fd)
            raise DataFolderInUseError(str(self._folder), pid) from None
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        # The number only makes the other's message better; the lock is held without it.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the lock back. The file stays: removing it would let two hold "the" lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isascii() and text.isdigit() else None
