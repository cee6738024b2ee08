"""A time in which the disk takes nothing: full, read-only, failing."""

from __future__ import annotations

import time

from engine.cache.disk.quarantine import Note


class Outage:
    """Whether the disk refuses, since when it may be tried again, and the two events of it."""

    def __init__(self, note: Note, retry_s: float, max_retry_s: float) -> None:
        """Starts without an outage.

        Args:
            note: Takes an event when one begins and one when it ends.
            retry_s: Seconds to the first new attempt; doubles with each that fails.
            max_retry_s: And not beyond this.
        """
        self._note = note
        self._first_retry_s = retry_s
        self._max_retry_s = max_retry_s
        self._retry_s = retry_s
        self._retry_at_s = 0.0
        self.reason = ""

    def begin(self, reason: str) -> None:
        """The disk has refused, or has refused again."""
        if not self.reason:
            self._retry_s = self._first_retry_s
            text = f"writing caches to disk is off: {reason}; they stay in memory"
            self._note("disk", text, "warning")
        self.reason = reason
        self._retry_at_s = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, self._max_retry_s)

    def end(self) -> None:
        """The disk has taken something."""
        if self.reason:
            self.reason = ""
            self._note("disk", "writing caches to disk is on again", "info")

    @property
    def wait_s(self) -> float:
        """Seconds until the disk may be tried again; 0 when it may be now."""
        return max(0.0, self._retry_at_s - time.monotonic()) if self.reason else 0.0
