"""A model's folder in the Hugging Face cache: blobs by checksum, snapshots of links by commit.

The layout is huggingface_hub's, so that every tool that reads this cache finds the model, and
what one of them has brought is not fetched again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.pull.errors import PullRefusedError
from app.pull.listing import RemoteFile
from app.pull.reference import ModelReference
from app.pull.transfer import PARTIAL_SUFFIX
from engine.models.folder import locked, put_in_place, scratch_folder, write_whole
from widgets.format import short_bytes


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """Where one model lies.

    Attributes:
        cache: The cache that it is part of.
        model: The model.
    """

    cache: Path
    model: ModelReference

    @property
    def folder(self) -> Path:
        """The folder of all its revisions."""
        return self.cache / f"models--{self.model.organisation}--{self.model.name}"

    def snapshot(self, commit: str) -> Path:
        """The folder of a revision; it need not exist."""
        return self.folder / "snapshots" / commit

    def blob(self, file: RemoteFile) -> Path:
        """Where the content of a file lies, once it is whole."""
        return self.folder / "blobs" / file.checksum

    def has(self, file: RemoteFile) -> bool:
        """Whether a file is here whole."""
        try:
            return self.blob(file).stat().st_size == file.size_bytes
        except OSError:
            return False

    def num_missing_bytes(self, files: Iterable[RemoteFile]) -> int:
        """Bytes of files that are still to come."""
        return sum(file.size_bytes - self._num_bytes_here(file) for file in files)

    def _num_bytes_here(self, file: RemoteFile) -> int:
        if self.has(file):
            return file.size_bytes
        blob = self.blob(file)
        try:
            num_bytes = blob.with_name(blob.name + PARTIAL_SUFFIX).stat().st_size
        except OSError:
            return 0
        return num_bytes if num_bytes <= file.size_bytes else 0

    def is_complete(self, commit: str, files: Iterable[RemoteFile]) -> bool:
        """Whether a snapshot has all of the files, whole."""
        snapshot = self.snapshot(commit)
        return all(self.has(file) and (snapshot / file.name).is_file() for file in files)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from pulling the same model meanwhile.

        Raises:
            PullRefusedError: One of them does.
            OSError: The cache cannot be written to.
        """
        locks = self.cache / ".locks" / self.folder.name
        locks.mkdir(parents=True, exist_ok=True)
        (self.folder / "blobs").mkdir(parents=True, exist_ok=True)
        with locked(locks / "stoker-pull.lock", self._refuse):
            try:
                yield
            finally:
                for folder in (self.folder / "blobs", self.folder):
                    with contextlib.suppress(OSError):  # something is in it
                        folder.rmdir()

    def _refuse(self) -> None:
        raise PullRefusedError(
            f"{self.model.repository} is being pulled by another process; see what comes of that"
        )

    def place(self, commit: str, files: Sequence[RemoteFile]) -> None:
        """Makes the snapshot of a commit, and has its branch or tag name it.

        What another tool has put into that snapshot stays. The lock is held.

        Args:
            commit: The commit.
            files: Its files, all of them here.

        Raises:
            OSError: The cache cannot be written to.
        """
        snapshot = self.snapshot(commit)
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(snapshot) as scratch:
            if snapshot.is_dir():
                shutil.copytree(snapshot, scratch, symlinks=True, dirs_exist_ok=True)
            for file in files:
                link = scratch / file.name
                link.unlink(missing_ok=True)
                link.symlink_to(Path("..", "..", "blobs", file.checksum))
            put_in_place(scratch, snapshot)
        self.name_commit(commit)

    def name_commit(self, commit: str) -> None:
        """Notes what the branch or tag that was asked for stands for.

        Raises:
            OSError: The cache cannot be written to.
        """
        if self.model.revision == commit:
            return
        reference = self.folder / "refs" / self.model.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_whole(reference, commit)

    def drop(self, files: Iterable[RemoteFile]) -> None:
        """Removes blobs that turned out not to be wanted; no snapshot names them."""
        for file in files:
            self.blob(file).unlink(missing_ok=True)

    def check_room(self, num_bytes: int) -> None:
        """Refuses what the disk has no room for.

        Raises:
            PullRefusedError: It has not.
        """
        there = self.folder
        while not there.exists():
            there = there.parent
        num_free = shutil.disk_usage(there).free
        if num_bytes > num_free:
            raise PullRefusedError(
                f"{self.model.repository} needs {short_bytes(num_bytes)} more in {self.cache}, "
                f"and {short_bytes(num_free)} are free: make room, or move the cache with "
                "HF_HUB_CACHE"
            )
