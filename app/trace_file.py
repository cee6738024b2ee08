"""``--trace FILE``: the engine's decisions as JSON lines, written behind its back."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InvalidRequestError

if TYPE_CHECKING:
    from engine.trace import Record, TraceSink

MAX_WAITING = 10_000
"""Records that may wait for the disk; those beyond are counted and left out."""
LIMIT_BYTES = 256_000_000
BATCH_S = 0.2
"""Records are written together, for fewer wake-ups beside a model that computes."""
JOIN_S = 5.0


def add_trace(parser: argparse.ArgumentParser) -> None:
    """Adds the flag; where it is not given it leaves no trace."""
    parser.add_argument(
        "--trace",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="write every decision of scheduler and cache into a file, as JSON lines",
    )


def trace_path(arguments: argparse.Namespace) -> Path | None:
    """Where decisions go; None where nobody wants them."""
    name: str | None = vars(arguments).get("trace")
    return Path(name) if name is not None else None


@contextlib.contextmanager
def traced(path: Path | None) -> Iterator[TraceSink | None]:
    """Takes decisions meanwhile.

    Args:
        path: The file; None takes none.

    Yields:
        What the engine tells its decisions to.

    Raises:
        InvalidRequestError: The file cannot be created; nothing has begun.
    """
    if path is None:
        yield None
        return
    trace = TraceFile(path)
    try:
        yield trace.take
    finally:
        trace.close()


class TraceFile:
    """A file of decisions that grows up to a limit; the engine never waits for it."""

    def __init__(
        self, path: Path, *, limit_bytes: int = LIMIT_BYTES, max_waiting: int = MAX_WAITING
    ) -> None:
        """Creates the file, readable by its owner only, and starts to write.

        Args:
            path: The file; it must not be there yet.
            limit_bytes: It ends at about this length, with a record that says so.
            max_waiting: Records that may wait for the disk.

        Raises:
            InvalidRequestError: It cannot be created.
        """
        self._fd = _create(path)
        self._limit_bytes = limit_bytes
        self._num_bytes = 0
        self._records: queue.Queue[Record] = queue.Queue(max_waiting)
        self._num_left_out = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stoker-trace", daemon=True)
        self._thread.start()

    def take(self, record: Record) -> None:
        """Takes a record on one thread, at once: it is written later, or counted as left out."""
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._num_left_out += 1

    def close(self) -> None:
        """Writes what waits and completes the file."""
        self._is_over.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            # A full disk ends the trace, and nothing else.
            with contextlib.suppress(OSError):
                self._write_all()
        finally:
            os.close(self._fd)

    def _write_all(self) -> None:
        num_told = 0
        while True:
            is_last = self._is_over.wait(BATCH_S)
            lines = [_line(record) for record in self._waiting()]
            if (num_left_out := self._num_left_out) > num_told:
                lines.append(_line({"kind": "left out", "num_records": num_left_out - num_told}))
                num_told = num_left_out
            self._write("".join(lines))
            if self._num_bytes >= self._limit_bytes:
                self._write(_line({"kind": "end", "limit_bytes": self._limit_bytes}))
                return
            if is_last:
                return

    def _waiting(self) -> Iterator[Record]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._records.get_nowait()

    def _write(self, text: str) -> None:
        view = memoryview(text.encode())
        self._num_bytes += len(view)
        while view:
            view = view[os.write(self._fd, view) :]


def _line(record: Record) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def _create(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise InvalidRequestError(f"{path} is there already; trace into another file") from error
    except OSError as error:
        raise InvalidRequestError(f"cannot trace into {path}: {error.strerror}") from error
