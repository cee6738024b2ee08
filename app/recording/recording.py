"""A recording that is read: which state there was at which time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from app.recording.changes import PATCH, changed
from app.recording.chapters import DamagedError, Member, members
from app.recording.writer import FORMAT, FORMAT_VERSION
from app.version import __version__
from engine.errors import InvalidRequestError
from engine.snapshot import (
    EngineSnapshot,
    FormatError,
    RowReader,
    ThroughputRow,
    checked_pool,
    from_json,
)

MAX_CHAPTERS_KEPT = 3
MAX_S = 86400.0 * 366
Frames = tuple[tuple[float, ...], tuple[EngineSnapshot, ...]]
"""Times, and the snapshots at them."""


class RecordingError(InvalidRequestError):
    """A file is no recording, or not a sound one."""


@dataclass(frozen=True, slots=True)
class _Chapter:
    start_s: float
    offset: int


class Recording:
    """A file of snapshots. Only the chapters that are looked at are in memory."""

    def __init__(self, path: Path) -> None:
        """Opens a file and looks through it.

        Args:
            path: The file.

        Raises:
            RecordingError: It cannot be read, is no recording, or is damaged.
        """
        self.name = path.name
        self._reader = RowReader()
        self._kept: OrderedDict[int, Frames] = OrderedDict()
        self._chapters: list[_Chapter] = []
        self.duration_s = 0.0
        self.samples: list[ThroughputRow] = []
        """What the charts show, one for each second."""
        self.is_cut = False
        """Whether the end is missing, as after a crash."""
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise RecordingError(f"cannot read {path}: {error.strerror}") from error
        try:
            self._look_through()
        except OSError as error:
            raise RecordingError(f"cannot read {path}: {error.strerror}") from error
        except (DamagedError, FormatError) as error:
            what = "is damaged" if self._chapters else "is no recording of Stoker's"
            raise RecordingError(f"{path} {what} ({error})") from error

    @property
    def gap_words(self) -> str:
        """How its version differs from this one, on one line; empty where it does not."""
        gap = self._reader.gap
        if not gap:
            return ""
        return (
            f"it was made by Stoker {self._version} and this is {__version__}, "
            f"so some of it is not shown ({gap.words})"
        )

    def at(self, position_s: float) -> EngineSnapshot:
        """The state at a time since the beginning.

        Raises:
            RecordingError: The file is damaged there.
        """
        starts = [chapter.start_s for chapter in self._chapters]
        times, snapshots = self._frames(max(0, bisect_right(starts, position_s) - 1))
        return snapshots[max(0, bisect_right(times, position_s) - 1)]

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _frames(self, number: int) -> Frames:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        try:
            return self._read_chapter(number)
        except (OSError, DamagedError, FormatError, StopIteration) as error:
            raise RecordingError(f"{self.name} is damaged here ({error})") from error

    def _read_chapter(self, number: int) -> Frames:
        member = next(members(self._file, self._chapters[number].offset))
        frames = tuple(self._read(member))
        self._kept[number] = (tuple(at for at, _ in frames), tuple(each for _, each in frames))
        if len(self._kept) > MAX_CHAPTERS_KEPT:
            self._kept.popitem(last=False)
        return self._kept[number]

    def _look_through(self) -> None:
        found = members(self._file)
        head = next(found, None)
        self._check(head.lines[0] if head is not None and head.lines else {})
        for member in found:
            if not member.is_whole:
                self.is_cut = True
            self._note(member)
        if not self._chapters:
            raise FormatError("there is nothing in it")
        self._read_chapter(0)

    def _check(self, head: dict[str, Any]) -> None:
        if head.get("format") != FORMAT:
            raise FormatError("it does not say that it is one")
        if head.get("version") != FORMAT_VERSION:
            raise FormatError(
                f"it is of format {head.get('version')}, and this Stoker reads {FORMAT_VERSION}"
            )
        self._version = str(head.get("stoker", "another version"))

    def _note(self, member: Member) -> None:
        """Takes note of where a chapter is, and of what the charts show of it."""
        if not member.lines:
            return
        row = ThroughputRow()
        for line in member.lines:
            at_s = _time(line)
            if at_s < self.duration_s:
                raise FormatError("its times go backwards")
            row = self._throughput(line, row)
            self._sample(at_s, row)
            self.duration_s = at_s
        self._chapters.append(_Chapter(_time(member.lines[0]), member.offset))

    def _throughput(self, line: dict[str, Any], before: ThroughputRow) -> ThroughputRow:
        """The rates of a line. The rest of it is read when it is shown: an hour has 14 400."""
        whole, what_changed = line.get("all"), line.get("set")
        if isinstance(whole, dict) and "throughput" in whole:
            return self._reader.row(ThroughputRow, whole["throughput"])
        part = what_changed.get("throughput") if isinstance(what_changed, dict) else None
        if isinstance(part, dict):
            row: ThroughputRow = changed(before, part.get(PATCH), self._reader)
            return row
        return before

    def _sample(self, at_s: float, row: ThroughputRow) -> None:
        while len(self.samples) < int(at_s):
            self.samples.append(self.samples[-1] if self.samples else row)
        if len(self.samples) == int(at_s):
            self.samples.append(row)

    def _read(self, member: Member) -> Iterator[tuple[float, EngineSnapshot]]:
        snapshot: EngineSnapshot | None = None
        for line in member.lines:
            if "all" in line:
                snapshot = from_json(line["all"], self._reader)
            elif snapshot is None:
                raise FormatError("a chapter does not begin with a whole snapshot")
            else:
                before = snapshot.pool
                snapshot = changed(snapshot, line.get("set"), self._reader)
                assert snapshot is not None
                if snapshot.pool is not before:
                    pool = checked_pool(snapshot.pool, self._reader)
                    snapshot = replace(snapshot, pool=pool)
            yield _time(line), snapshot


def _time(line: dict[str, Any]) -> float:
    time_s = line.get("t")
    is_time = isinstance(time_s, int | float) and math.isfinite(time_s) and 0 <= time_s <= MAX_S
    if not is_time:
        raise FormatError("a line has no time")
    return float(time_s)  # type: ignore[arg-type]
