"""One file from a hub: resumed where it broke off, checked, and renamed when it is whole."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx2

from app.pull.errors import HubError, PassingHubError, PullRefusedError, PullStoppedError
from app.pull.hub import Hub
from app.pull.listing import RemoteFile
from engine.models.folder import fsync_path

PARTIAL_SUFFIX = ".stoker-partial"
_READ_BYTES = 1 << 20
_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class PartialFile:
    """What came of a file so far, with the checksum of it."""

    def __init__(self, path: Path, file: RemoteFile) -> None:
        """Opens it, and reads what is there.

        Args:
            path: Where the partial lies.
            file: The file that it will be.

        Raises:
            OSError: It cannot be opened or read.
        """
        self.path = path
        self.remote = file
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._stream = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        self.num_bytes = 0
        self._digest = _new_digest(file)
        if os.fstat(self._stream.fileno()).st_size > file.size_bytes:
            self.restart()
        while chunk := self._stream.read(_READ_BYTES):
            self._digest.update(chunk)
            self.num_bytes += len(chunk)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        if error is not None and not self.num_bytes:
            self.path.unlink(missing_ok=True)

    @property
    def num_missing_bytes(self) -> int:
        """Bytes that are still to come."""
        return self.remote.size_bytes - self.num_bytes

    @property
    def is_sound(self) -> bool:
        """Whether the checksum of a whole file is the hub's."""
        return self._digest.hexdigest() == self.remote.checksum

    def restart(self) -> None:
        """Forgets what came."""
        self._stream.seek(0)
        self._stream.truncate()
        self.num_bytes = 0
        self._digest = _new_digest(self.remote)

    def append(self, chunk: bytes) -> None:
        """Adds what came.

        Raises:
            OSError: The disk does not take it; the file ends where it did before.
        """
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
        except OSError:
            self._stream.truncate(self.num_bytes)
            raise
        self._digest.update(chunk)
        self.num_bytes += len(chunk)


def _new_digest(file: RemoteFile) -> hashlib._Hash:
    if len(file.checksum) == 64:
        return hashlib.sha256()
    # As git names a blob; no more than a check for damage.
    return hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)


class Transfer:
    """Takes files of one model at one commit."""

    def __init__(
        self,
        hub: Hub,
        repository: str,
        commit: str,
        stop: threading.Event,
        on_bytes: Callable[[int], None],
    ) -> None:
        """Prepares for a model.

        Args:
            hub: Where it is.
            repository: The model's id there.
            commit: Its commit.
            stop: Set to end it.
            on_bytes: Told how many bytes came; fewer than none where some were thrown away.
        """
        self._hub = hub
        self._repository = repository
        self._commit = commit
        self._stop = stop
        self._on_bytes = on_bytes

    def take(self, file: RemoteFile, target: Path) -> None:
        """Brings one file to its place, where it is whole or not at all.

        Args:
            file: The file.
            target: Its place; a partial lies beside it until it is whole.

        Raises:
            PullRefusedError: The hub does not give it to us, or the disk is full.
            HubError: It did not come, or came damaged.
            PullStoppedError: Somebody stopped it.
            OSError: The disk fails otherwise.
        """
        path = target.with_name(target.name + PARTIAL_SUFFIX)
        try:
            self._take(file, path)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise PullRefusedError(
                f"the disk of {path.parent} is full: free some room and pull again, which goes on "
                "where it stopped"
            ) from error
        fsync_path(path)
        path.replace(target)
        fsync_path(target.parent)

    def _take(self, file: RemoteFile, path: Path) -> None:
        with PartialFile(path, file) as partial:
            num_old_bytes = partial.num_bytes
            self._complete(partial)
            if not partial.is_sound and num_old_bytes:
                # What an earlier run left may have been damaged since.
                self._restart(partial)
                self._complete(partial)
            if partial.is_sound:
                return
        path.unlink()
        raise HubError(
            f"{file.name} came damaged: its checksum is not the one that {self._hub.address.host} "
            "names; pull again"
        )

    def _complete(self, partial: PartialFile) -> None:
        attempts = self._hub.attempts()
        while partial.num_missing_bytes:
            num_before = partial.num_bytes
            try:
                self._receive(partial)
            except PassingHubError as error:
                attempts.failed(error, partial.num_bytes - num_before)

    def _receive(self, partial: PartialFile) -> None:
        name = partial.remote.name
        path = f"/{self._repository}/resolve/{self._commit}/{name}"
        subject = f"{name!r} of {self._repository!r}"
        with self._hub.opened(path, subject, start=partial.num_bytes) as answer:
            self._align(partial, answer)
            for chunk in answer.iter_bytes():
                if self._stop.is_set():
                    raise PullStoppedError("stopped")
                if len(chunk) > partial.num_missing_bytes:
                    self._restart(partial)
                    raise HubError(f"{name} is longer than {self._hub.address.host} says")
                partial.append(chunk)
                self._on_bytes(len(chunk))
        if partial.num_missing_bytes:
            raise PassingHubError(f"{self._hub.address.host} ended {name} before its end")

    def _align(self, partial: PartialFile, answer: httpx2.Response) -> None:
        """Sees to it that the answer goes on where the partial ends.

        Raises:
            HubError: It is not of the length that the hub told.
        """
        if answer.status_code == 200 and partial.num_bytes:
            self._restart(partial)  # it gives no parts
        if answer.status_code == 206:
            place = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if place is None or int(place[1]) != partial.num_bytes:
                self._restart(partial)
                raise PassingHubError(f"{self._hub.address.host} sent another part than asked for")
        length = answer.headers.get("content-length", "")
        is_plain = answer.headers.get("content-encoding", "identity") == "identity"
        if is_plain and length.isdigit() and int(length) != partial.num_missing_bytes:
            raise HubError(
                f"{self._hub.address.host} offers {int(length):,} bytes of {partial.remote.name} "
                f"where {partial.num_missing_bytes:,} are missing"
            )

    def _restart(self, partial: PartialFile) -> None:
        self._on_bytes(-partial.num_bytes)
        partial.restart()
