"""Records an engine from a thread of its own; the engine never hears of it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.recording.writer import LIMIT_BYTES, RecordingWriter
from app.speech import tell
from engine.commands import Note
from engine.face import EngineFace
from engine.snapshot import EngineSnapshot
from widgets.format import duration, short_bytes

PERIOD_S = 0.25
CLOCKS_S = 1.0
"""Clocks and readings go on while the engine does nothing; they are recorded this often."""
JOIN_S = 5.0
log = logging.getLogger("stoker.record")


@contextlib.contextmanager
def recorded(
    engine: EngineFace, path: Path | None, address: str, say: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Records an engine meanwhile, and says at the end what became of it.

    Args:
        engine: Whose snapshots are recorded.
        path: The file; None records nothing.
        address: Of the engine's API.
        say: Told what became of it; None is standard output.

    Raises:
        InvalidRequestError: The file cannot be created; nothing has begun.
    """
    if path is None:
        yield
        return
    recorder = Recorder(engine, path, address)
    recorder.start()
    try:
        yield
    finally:
        (say or tell)(f"stoker: {recorder.stop()}")


class Recorder:
    """Looks at the snapshot four times a second, and writes down what is new."""

    def __init__(
        self,
        engine: EngineFace,
        path: Path,
        address: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """Creates the file; nothing is recorded yet.

        Args:
            engine: Whose snapshots are recorded.
            path: The file; it must not be there yet.
            address: Of its API.
            clock: Seconds, rising.
            limit_bytes: The file ends at about this length.

        Raises:
            InvalidRequestError: The file cannot be created.
        """
        self._engine = engine
        self._path = path
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._writer = RecordingWriter(path, address, time.time())
        self._last: EngineSnapshot | None = None
        self._last_s = 0.0
        self._num_dropped = 0
        self._ending = ""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stoker-record", daemon=True)

    def start(self) -> None:
        """Starts to record; returns at once."""
        self._thread.start()

    def stop(self) -> str:
        """Completes the file.

        Returns:
            What became of it, on one line for people.
        """
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        words = f"recorded {duration(self._last_s)} in {self._path}, "
        words += short_bytes(self._writer.num_bytes)
        if self._num_dropped:
            words += f"; {self._num_dropped} frames are missing, the disk was too slow for them"
        return f"{words}; {self._ending}" if self._ending else words

    def _run(self) -> None:
        try:
            self._record()
            self._writer.close()
        except OSError as error:
            self._end(f"it breaks off there: {error.strerror or error}")

    def _record(self) -> None:
        began_s = self._clock()
        period = 0
        while True:
            is_last = self._is_over.is_set()
            self._look(self._clock() - began_s, is_last=is_last)
            if self._writer.num_bytes >= self._limit_bytes:
                self._end(f"it ends there, at its limit of {short_bytes(self._limit_bytes)}")
            if is_last or self._ending:
                return
            now = int((self._clock() - began_s) / PERIOD_S)
            self._num_dropped += max(0, now - period)
            period = now + 1
            self._is_over.wait(max(0.0, began_s + period * PERIOD_S - self._clock()))

    def _look(self, at_s: float, *, is_last: bool) -> None:
        snapshot, last = self._engine.snapshot, self._last
        if snapshot is last:
            return
        is_step_known = last is not None and snapshot.step == last.step
        if is_step_known and at_s - self._last_s < CLOCKS_S and not is_last:
            return
        self._writer.add(at_s, snapshot)
        self._last, self._last_s = snapshot, at_s

    def _end(self, words: str) -> None:
        self._ending = words
        log.warning("the recording in %s: %s", self._path, words)
        self._engine.send(Note(kind="record", text=f"{self._path.name}: {words}", level="warning"))
