"""Agents in files: what such files are called, and where they lie."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

ARCHIVE_SUFFIX = ".stoker-agent"
MAX_STEM_CHARS = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file in the folder of exports.

    Attributes:
        path: Where it lies.
        num_bytes: Its length.
        time: When it was written, wall-clock seconds since the epoch.
    """

    path: Path
    num_bytes: int
    time: float

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        return self.path.name.removesuffix(ARCHIVE_SUFFIX)


def archive_name(agent_id: str) -> str:
    """Name of an agent's file, fit for any file system; never hidden, never a path."""
    stem = _UNSAFE.sub("-", agent_id).strip("-.")[:MAX_STEM_CHARS]
    return f"{stem or 'agent'}{ARCHIVE_SUFFIX}"


def free_path(folder: Path, agent_id: str) -> Path:
    """Where to write an agent's file so that it takes no other's place."""
    path = folder / archive_name(agent_id)
    stem = path.name.removesuffix(ARCHIVE_SUFFIX)
    others = (folder / f"{stem}-{number}{ARCHIVE_SUFFIX}" for number in itertools.count(2))
    return next(each for each in itertools.chain([path], others) if not each.exists())


def exported_files(folder: Path) -> tuple[ExportedFile, ...]:
    """The files of a folder, newest first; none where there is no such folder."""
    found = []
    try:
        paths = [path for path in folder.iterdir() if path.name.endswith(ARCHIVE_SUFFIX)]
    except OSError:
        return ()
    for path in paths:
        # Names that begin with a dot are files that are being written.
        if not path.name.startswith(".") and path.is_file():
            state = path.stat()
            found.append(ExportedFile(path, state.st_size, state.st_mtime))
    return tuple(sorted(found, key=lambda each: each.time, reverse=True))
