"""What an agent's priority and the batch window may be. Pure."""

from __future__ import annotations

import math

from engine.errors import InvalidRequestError

MIN_PRIORITY = -2
NORMAL_PRIORITY = 0
MAX_PRIORITY = 2
HEAD_START_S = 30.0
"""Each step of priority counts as this many seconds waited. A turn that has waited longer than
the most that others can be ahead is never overtaken, so nobody starves."""
MAX_BATCH_WINDOW_MS = 10_000.0


def check_priority(priority: int) -> int:
    """A priority that there is.

    Raises:
        InvalidRequestError: It is out of range.
    """
    if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise InvalidRequestError(f"must be {MIN_PRIORITY} to {MAX_PRIORITY}, not {priority}")
    return priority


def check_batch_window(window_ms: float) -> float:
    """A batch window that there can be, in milliseconds.

    Raises:
        InvalidRequestError: It is out of range.
    """
    if math.isnan(window_ms) or not 0 <= window_ms <= MAX_BATCH_WINDOW_MS:
        raise InvalidRequestError(f"must be 0 to {MAX_BATCH_WINDOW_MS:.0f}, not {window_ms:g}")
    return window_ms
