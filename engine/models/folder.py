"""A model folder on disk: its manifest, its checks, and how it is put in place whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelLoadError

MANIFEST_NAME = "stoker-manifest.json"
MANIFEST_VERSION = 1
_SMALL_FILE_BYTES = 16 * 2**20
_LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What a file must be.

    Attributes:
        size_bytes: Its length.
        sha256: Its checksum, in hex.
    """

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a converted model folder was made from and what it must contain.

    Attributes:
        source_sha256: Checksum of the file it was converted from, in hex.
        files: Every file by name, without the manifest itself.
    """

    source_sha256: str
    files: Mapping[str, FileStamp]

    @classmethod
    def of_folder(cls, folder: Path, source_sha256: str) -> Manifest:
        """Stamps every file that is in ``folder`` now."""
        paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST_NAME)
        stamps = {path.name: FileStamp(path.stat().st_size, hash_file(path)) for path in paths}
        return cls(source_sha256=source_sha256, files=stamps)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads the manifest of ``folder``.

        Raises:
            ModelLoadError: There is none, or it is damaged or of another version.
        """
        try:
            fields = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
            if fields["version"] != MANIFEST_VERSION:
                raise ModelLoadError(f"{folder} was made by another version of Stoker")
            files = {
                name: FileStamp(int(stamp["size_bytes"]), str(stamp["sha256"]))
                for name, stamp in fields["files"].items()
            }
            return cls(source_sha256=str(fields["source_sha256"]), files=files)
        except FileNotFoundError:
            raise ModelLoadError(f"{folder} has no {MANIFEST_NAME}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelLoadError(f"{folder / MANIFEST_NAME} is damaged: {error!r}") from error

    def write(self, folder: Path) -> None:
        """Writes the manifest into ``folder``."""
        fields = {
            "version": MANIFEST_VERSION,
            "source_sha256": self.source_sha256,
            "files": {
                name: {"size_bytes": stamp.size_bytes, "sha256": stamp.sha256}
                for name, stamp in self.files.items()
            },
        }
        (folder / MANIFEST_NAME).write_text(json.dumps(fields, indent=1) + "\n", "utf-8")

    def faults(self, folder: Path, *, full: bool) -> list[str]:
        """What in ``folder`` is not as stamped; empty when all is well.

        Args:
            folder: The folder to look at.
            full: Also read the big files; without it those are judged by size alone.
        """
        return [
            fault
            for name, stamp in self.files.items()
            if (fault := _file_fault(folder / name, stamp, full=full))
        ]


def _file_fault(path: Path, stamp: FileStamp, *, full: bool) -> str:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != stamp.size_bytes:
            return f"{path.name} has {size_bytes} bytes instead of {stamp.size_bytes}"
        if (full or size_bytes <= _SMALL_FILE_BYTES) and hash_file(path) != stamp.sha256:
            return f"{path.name} has another checksum"
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    return ""


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds an exclusive lock between processes; it ends with the process at the latest.

    Args:
        path: The lock file; made when missing, never removed.
        on_wait: Called again and again while another process has it; may raise to give up.
    """
    with path.open("a") as file:
        while not _try_lock(file.fileno()):
            on_wait()
            time.sleep(_LOCK_POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target``, removed afterwards unless it was put in place.

    The caller holds the lock of ``target``, so what an interrupted process left is dead and is
    swept here.
    """
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(leftover)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    scratch.mkdir()
    try:
        yield scratch
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)


def put_in_place(scratch: Path, target: Path) -> None:
    """Makes ``scratch`` the folder ``target``: after a crash it is there whole or not at all."""
    for path in scratch.iterdir():
        fsync_path(path)
    fsync_path(scratch)
    if target.exists():
        # Renamed into the scratch pattern, so that a crash here leaves only what is swept.
        stale = target.with_name(f".{target.name}.stale-{os.getpid()}.tmp")
        target.rename(stale)
        scratch.rename(target)
        shutil.rmtree(stale)
    else:
        scratch.rename(target)
    fsync_path(target.parent)


def write_whole(path: Path, text: str) -> None:
    """Writes a small file so that a reader finds the old text or the new, never a part."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.write_text(text, "utf-8")
    fsync_path(scratch)
    scratch.replace(path)


def fsync_path(path: Path) -> None:
    """Forces a file or a folder to the disk itself, past the drive's cache on macOS."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        full_fsync = getattr(fcntl, "F_FULLFSYNC", None)
        if full_fsync is None:
            os.fsync(descriptor)
        else:
            fcntl.fcntl(descriptor, full_fsync)
    finally:
        os.close(descriptor)
