"""How far a pull is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

RATE_WINDOW_S = 10.0
REPORT_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """How far a pull is.

    Attributes:
        file: Name of the file that comes now.
        num_done_bytes: Bytes that are here, those of earlier runs among them.
        num_total_bytes: Bytes of all files of the model.
        bytes_per_s: How fast it came lately; 0 where that is not known yet.
    """

    file: str
    num_done_bytes: int
    num_total_bytes: int
    bytes_per_s: float

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.num_done_bytes / self.num_total_bytes if self.num_total_bytes else 1.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this rate; None where it is not known."""
        if self.bytes_per_s <= 0:
            return None
        return (self.num_total_bytes - self.num_done_bytes) / self.bytes_per_s


class Meter:
    """Adds up what comes, and tells about it a few times a second."""

    def __init__(
        self,
        report: Callable[[PullProgress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts at nothing.

        Args:
            report: Told how far it is.
            clock: Seconds, for rates.
        """
        self._num_total_bytes = 0
        self._report = report
        self._clock = clock
        self._file = ""
        self._num_here_bytes = 0
        self._num_come_bytes = 0
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._reported_s = -REPORT_S

    def expect(self, num_total_bytes: int) -> None:
        """Says how many bytes all files have."""
        self._num_total_bytes = num_total_bytes

    def begin(self, file: str, num_here_bytes: int) -> None:
        """A file's turn.

        Args:
            file: Its name.
            num_here_bytes: Bytes of it that were here before.
        """
        self._file = file
        self._num_here_bytes += num_here_bytes
        self._tell(self._clock())

    def add(self, num_bytes: int) -> None:
        """Something came; fewer bytes than none where some were thrown away."""
        self._num_come_bytes += num_bytes
        now = self._clock()
        if now - self._reported_s >= REPORT_S:
            self._tell(now)

    def _tell(self, now: float) -> None:
        self._reported_s = now
        self._samples.append((now, self._num_come_bytes))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()
        since_s, num_before = self._samples[0]
        rate = (self._num_come_bytes - num_before) / (now - since_s) if now > since_s else 0.0
        self._report(
            PullProgress(
                file=self._file,
                num_done_bytes=self._num_here_bytes + self._num_come_bytes,
                num_total_bytes=self._num_total_bytes,
                bytes_per_s=max(0.0, rate),
            )
        )
