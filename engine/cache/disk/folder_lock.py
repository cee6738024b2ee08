"""One process per data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path

from engine.errors import DataFolderInUseError

LOCK_NAME = "stoker.lock"


class FolderLock:
    """Held from ``acquire`` until ``release`` or the end of the process, however it ends.

    Several may hold one lock, from any thread: it is let go when the last of them has.
    """

    def __init__(self, folder: Path) -> None:
        """Prepares the lock of a folder, which must exist.

        Args:
            folder: The data folder.
        """
        self._folder = folder
        self._fd: int | None = None
        self._num_holds = 0
        self._mutex = threading.Lock()

    def acquire(self) -> None:
        """Takes the lock, at once or not at all.

        Raises:
            DataFolderInUseError: Another process has it.
            OSError: The lock file cannot be made.
        """
        with self._mutex:
            if self._fd is None:
                self._fd = self._take()
            self._num_holds += 1

    def _take(self) -> int:
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
        # The number only makes the other's message better; the lock is held without it.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def release(self) -> None:
        """Gives the lock back. The file stays: removing it would let two hold "the" lock."""
        with self._mutex:
            if self._fd is None:
                return
            self._num_holds -= 1
            if not self._num_holds:
                os.close(self._fd)
                self._fd = None


class FolderHold:
    """One holder's share of a lock, which it can give back more often than it took it."""

    def __init__(self, lock: FolderLock) -> None:
        """Holds nothing yet."""
        self._lock = lock
        self._is_held = False

    def acquire(self) -> None:
        """Takes it, as ``FolderLock.acquire`` does."""
        if not self._is_held:
            self._lock.acquire()
            self._is_held = True

    def release(self) -> None:
        """Gives it back, if it was taken."""
        if self._is_held:
            self._is_held = False
            self._lock.release()


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isascii() and text.isdigit() else None
