"""How many requests each key may send: a bucket of tokens that refills as time goes by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.api.callers import Caller
from app.api.errors import RateLimitedError

_MINUTE_S = 60.0


@dataclass(slots=True)
class _Bucket:
    num_tokens: float
    filled_at: float


class RateLimits:
    """A bucket for each key. It holds a minute's requests, so a short burst is let through."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Fills the buckets.

        Args:
            per_minute: Requests a minute; 0 for any number.
            clock: Seconds that never go back.
        """
        self._per_minute = per_minute
        self._clock = clock
        # As many as there are keys: whoever has none never comes here.
        self._buckets: dict[Caller, _Bucket] = {}

    def take(self, caller: Caller) -> int | None:
        """Takes a token for a request.

        Returns:
            How many are left; None where there is no limit.

        Raises:
            RateLimitedError: There is none; says when there will be one.
        """
        if not self._per_minute:
            return None
        now = self._clock()
        bucket = self._buckets.setdefault(caller, _Bucket(self._per_minute, now))
        refill = (now - bucket.filled_at) * self._per_minute / _MINUTE_S
        bucket.num_tokens = min(self._per_minute, bucket.num_tokens + refill)
        bucket.filled_at = now
        if bucket.num_tokens < 1:
            wait_s = (1 - bucket.num_tokens) * _MINUTE_S / self._per_minute
            raise RateLimitedError(self._per_minute, wait_s)
        bucket.num_tokens -= 1
        return int(bucket.num_tokens)

    def headers(self, num_left: int | None) -> list[tuple[bytes, bytes]]:
        """What a reply says of the limit; nothing where there is none."""
        if num_left is None:
            return []
        return [
            (b"x-ratelimit-limit-requests", b"%d" % self._per_minute),
            (b"x-ratelimit-remaining-requests", b"%d" % num_left),
        ]
