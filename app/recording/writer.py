"""Writes a recording.

The file is a row of gzip members, so ``zcat`` shows it. The first holds a line that names the
format; every other one is a chapter: a line with a whole snapshot, then lines with what changed.
What is written is readable at once, up to the last line, however the program ends.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from app.recording.changes import changes
from app.version import __version__
from engine.errors import InvalidRequestError
from engine.snapshot import EngineSnapshot, to_json

FORMAT = "stoker-recording"
FORMAT_VERSION = 1
CHAPTER_S = 30.0
LIMIT_BYTES = 256_000_000
_GZIP = 31
_LEVEL = 6


class RecordingWriter:
    """A recording that grows. Belongs to one thread."""

    def __init__(self, path: Path, address: str, time_s: float) -> None:
        """Creates the file, readable by its owner only.

        Args:
            path: The file; it must not be there yet.
            address: Of the API whose engine is recorded.
            time_s: Wall-clock seconds since the epoch.

        Raises:
            InvalidRequestError: It cannot be created.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o600)
        except FileExistsError as error:
            raise InvalidRequestError(
                f"{path} is there already; record into another file"
            ) from error
        except OSError as error:
            raise InvalidRequestError(f"cannot record into {path}: {error.strerror}") from error
        self.num_bytes = 0
        self._last: EngineSnapshot | None = None
        self._chapter_s = 0.0
        self._compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)
        self._write_line(
            {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "stoker": __version__,
                "time": time_s,
                "address": address,
            }
        )

    def add(self, at_s: float, snapshot: EngineSnapshot) -> None:
        """Adds a snapshot.

        Args:
            at_s: Seconds since the recording began; never less than before.
            snapshot: The state then.

        Raises:
            OSError: It cannot be written.
        """
        at_s = round(at_s, 3)
        if self._last is None or at_s - self._chapter_s >= CHAPTER_S:
            self._write(self._compressor.flush())
            self._compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)
            self._chapter_s = at_s
            self._write_line({"t": at_s, "all": to_json(snapshot)})
        else:
            self._write_line({"t": at_s, "set": changes(self._last, snapshot)})
        self._last = snapshot

    def close(self) -> None:
        """Completes the file.

        Raises:
            OSError: The end cannot be written; what was written before stays readable.
        """
        try:
            self._write(self._compressor.flush())
        finally:
            os.close(self._fd)

    def _write_line(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":")) + "\n"
        data = self._compressor.compress(text.encode("ascii"))
        self._write(data + self._compressor.flush(zlib.Z_SYNC_FLUSH))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.num_bytes += len(data)
