"""Connections that were refused before there was a request on them, in the log and the counts."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from app.metrics import Metrics

LOG_EVERY_S = 1.0
log = logging.getLogger("stoker.api.request")


class RefusedConnections:
    """Counts every one, and writes a line a second at most: a flood must not fill the log."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing was refused yet.

        Args:
            metrics: Where they are counted, with the requests that no model served.
            clock: Seconds that never go back.
        """
        self._metrics = metrics
        self._clock = clock
        self._logged_at: dict[int, float] = {}
        self._num_unlogged: Counter[int] = Counter()

    def note(self, status: int, reason: str, address: str) -> None:
        """Takes note of one.

        Args:
            status: HTTP status that it was answered with.
            reason: Why, in words.
            address: Where it came from.
        """
        self._metrics.requests.labels("", str(status)).inc()
        now = self._clock()
        logged_at = self._logged_at.get(status)
        if logged_at is not None and now - logged_at < LOG_EVERY_S:
            self._num_unlogged[status] += 1
            return
        num_others = self._num_unlogged.pop(status, 0)
        others = f", and {num_others} more before" if num_others else ""
        self._logged_at[status] = now
        log.info("connection refused %d %s from=%s%s", status, reason, address or "?", others)
