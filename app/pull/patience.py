"""How long a hub is waited for, and how often it is asked again."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from app.pull.errors import HubError, PassingHubError, PullStoppedError

PROGRESS_BYTES = 1 << 20
"""What has to come for failures before to be forgotten; less would let a hub drip for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds of waiting.

    Attributes:
        connect_s: Seconds for a connection to be made.
        silence_s: Seconds without a byte.
        num_attempts: Tries without progress, the first among them.
        first_wait_s: Seconds before the second try; doubled for each after it.
        max_wait_s: The longest of these waits, whatever the hub asks for.
    """

    connect_s: float = 10.0
    silence_s: float = 30.0
    num_attempts: int = 5
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0


DEFAULT_PATIENCE = Patience()


class Attempts:
    """Counts the failures of one thing that is tried."""

    def __init__(self, patience: Patience, stop: threading.Event) -> None:
        """Starts without failures.

        Args:
            patience: The bounds.
            stop: Set to end a wait.
        """
        self._patience = patience
        self._stop = stop
        self._num_failed = 0

    def failed(self, error: PassingHubError, num_new_bytes: int = 0) -> None:
        """Waits before the next try.

        Args:
            error: What happened.
            num_new_bytes: What came since the last failure.

        Raises:
            HubError: There have been enough tries.
            PullStoppedError: Somebody stopped it.
        """
        self._num_failed = 1 if num_new_bytes >= PROGRESS_BYTES else self._num_failed + 1
        if self._num_failed >= self._patience.num_attempts:
            raise HubError(f"{error}, {self._num_failed} times in a row") from error
        wait_s = self._patience.first_wait_s * 2 ** (self._num_failed - 1)
        if error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s)
        if self._stop.wait(min(wait_s, self._patience.max_wait_s)):
            raise PullStoppedError("stopped")
