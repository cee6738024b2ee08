"""Where files go that cannot be trusted: out of the way, but not lost at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from engine.cache.disk.durable import make_folder

MAX_FILES = 64
MAX_BYTES = 512 << 20

Note = Callable[[str, str, str], None]
"""Takes an event: kind, text and level."""


class Quarantine:
    """A folder bounded in files and bytes; the oldest go first."""

    def __init__(
        self,
        folder: Path,
        note: Note,
        *,
        max_files: int = MAX_FILES,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Names the folder; it is made when it is first needed.

        Args:
            folder: On the same file system as what will be moved there.
            note: Takes one event per file.
            max_files: How many files it keeps.
            max_bytes: How many bytes they may have together.
            clock: Wall-clock seconds; orders the files by name.
        """
        self._folder = folder
        self._note = note
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._clock = clock
        self.num_taken = 0

    def take(self, path: Path, reason: str) -> bool:
        """Moves a file, link or folder here without following or reading it.

        Args:
            path: What to move.
            reason: Why, for the event; begins with what was found, as in "its checksum is wrong".

        Returns:
            False when it could not be moved and is still where it was.
        """
        self.num_taken += 1
        is_moved = self._move(path)
        # A file's name may come from anybody, and goes to a screen.
        shown = "".join(char if char.isprintable() else "?" for char in path.name[:12])
        place = "set aside" if is_moved else "ignored"
        self._note("quarantine", f"{shown} {place}: {reason}", "warning")
        return is_moved

    def _move(self, path: Path) -> bool:
        name = f"{self._clock():017.6f}-{self.num_taken:06d}-{path.name}"
        try:
            make_folder(self._folder)
            os.rename(path, self._folder / name)
        except OSError:
            return False
        self._trim()
        return True

    def _trim(self) -> None:
        with contextlib.suppress(OSError):
            kept_bytes = 0
            for count, name in enumerate(sorted(os.listdir(self._folder), reverse=True), 1):
                path = self._folder / name
                kept_bytes += os.lstat(path).st_size
                if count > self._max_files or kept_bytes > self._max_bytes:
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)
