"""Plays a recording, with the same face as the engine that was recorded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.recording.recording import Recording, RecordingError
from engine.commands import (
    Abort,
    Command,
    DescribeBlock,
    Generate,
    Note,
    Shutdown,
    ToolsCalled,
)
from engine.errors import UnavailableError
from engine.messages import ChatFormat
from engine.snapshot import EMPTY_SNAPSHOT, EngineSnapshot
from widgets.history import MAX_SAMPLES, History
from widgets.source import SourceSlice

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


class Replay:
    """A recording and a place in it, which moves on by itself until it is held."""

    def __init__(
        self,
        recording: Recording,
        *,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Is at the beginning, and stands still until it is started.

        Args:
            recording: What is played.
            speed: How many recorded seconds pass in one.
            clock: Seconds, rising.
        """
        self._recording = recording
        self._speed = speed
        self._clock = clock
        self._from_s = 0.0
        self._from_clock = clock()
        self._is_held = True
        self._problem = ""
        self._shown = EMPTY_SNAPSHOT
        self._history = History()
        self._num_sampled = 0
        self._is_over = threading.Event()

    @property
    def position_s(self) -> float:
        """Recorded seconds since the beginning."""
        if self._is_held:
            return self._from_s
        now_s = self._from_s + (self._clock() - self._from_clock) * self._speed
        return min(now_s, self._recording.duration_s)

    @property
    def is_at_end(self) -> bool:
        """Whether there is nothing more to come."""
        return self.position_s >= self._recording.duration_s

    @property
    def snapshot(self) -> EngineSnapshot:
        """The state at this place; the last one that could be read where it cannot."""
        try:
            self._shown = self._recording.at(self.position_s)
            self._problem = ""
        except RecordingError as error:
            self._problem = str(error)
        return self._shown

    @property
    def chat_format(self) -> ChatFormat | None:
        """Always None: there is no model."""
        return None

    @property
    def state(self) -> SourceSlice:
        """Where it is, and how fast it goes."""
        place = f"{_minutes(self.position_s)}/{_minutes(self._recording.duration_s)}"
        if self.is_at_end:
            label = f" replay ended {place} "
        elif self._is_held:
            label = f" replay paused {place} "
        else:
            label = f"replay {place} {self._speed:g}x"
        notices = [self._recording.gap_words]
        if self._recording.is_cut:
            notices.append("the recording breaks off at its end: nobody completed it")
        return SourceSlice(
            label=label,
            is_recorded=True,
            is_held=self._is_held or self.is_at_end,
            problem=self._problem,
            notice="; ".join(words for words in notices if words),
        )

    @property
    def history(self) -> History:
        """What the charts would have shown at this place."""
        num_due = int(self.position_s) + 1
        if num_due < self._num_sampled or num_due - self._num_sampled > MAX_SAMPLES:
            self._num_sampled = max(0, num_due - MAX_SAMPLES)
            self._history = History()
        for sample in self._recording.samples[self._num_sampled : num_due]:
            self._history.add(sample)
        self._num_sampled = num_due
        return self._history

    def start(self) -> None:
        """Lets it go on; returns at once."""
        if self._is_held:
            self._move(self._from_s, is_held=False)

    def send(self, command: Command) -> None:
        """Ends it, or refuses: what was cannot be changed."""
        match command:
            case Shutdown():
                self._is_over.set()
            case Generate():
                command.admitted.set_exception(UnavailableError("a recording generates nothing"))
            case DescribeBlock():
                reason = "a recording has the block map, not what is in the blocks"
                command.done.set_exception(UnavailableError(reason))
            case Abort() | ToolsCalled() | Note():
                pass  # nothing runs here, and nobody takes notes
            case _:
                command.done.set_exception(UnavailableError("a recording cannot be changed"))

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits until it was ended; False on time-out."""
        return self._is_over.wait(timeout_s)

    def toggle(self) -> None:
        """Holds it, or lets it go on; from the end it begins anew."""
        if self.is_at_end:
            self._move(0.0, is_held=False)
        else:
            self._move(self.position_s, is_held=not self._is_held)

    def seek(self, step_s: float) -> None:
        """Moves by recorded seconds, backwards where they are negative."""
        self._move(self.position_s + step_s, is_held=self._is_held)

    def faster(self) -> None:
        """Goes at the next higher speed."""
        self._go(next((speed for speed in SPEEDS if speed > self._speed), self._speed))

    def slower(self) -> None:
        """Goes at the next lower speed."""
        self._go(next((speed for speed in SPEEDS[::-1] if speed < self._speed), self._speed))

    def _go(self, speed: float) -> None:
        self._move(self.position_s, is_held=self._is_held)
        self._speed = speed

    def _move(self, position_s: float, *, is_held: bool) -> None:
        self._from_s = min(max(0.0, position_s), self._recording.duration_s)
        self._from_clock = self._clock()
        self._is_held = is_held


def _minutes(time_s: float) -> str:
    """A place in a recording: 1:23, 61:05."""
    return f"{int(time_s) // 60}:{int(time_s) % 60:02d}"
