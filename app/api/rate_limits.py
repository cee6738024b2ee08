"""How many requests each key may send, and what replies say of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from app.api.bucket import Bucket
from app.api.callers import Caller
from app.api.errors import Dialect

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key may still send.

    Attributes:
        per_minute: Requests a minute.
        num_left: Requests at once, now.
        full_s: Seconds until it may send a minute's requests at once again.
        wait_s: Seconds until it may send the request that was asked for; 0 if it may.
    """

    per_minute: int
    num_left: int
    full_s: float
    wait_s: float

    def headers(self, dialect: Dialect) -> list[Header]:
        """What a reply says of it, in the names that clients of a dialect look for."""
        limit, left = str(self.per_minute), str(self.num_left)
        if dialect is Dialect.ANTHROPIC:
            reset = datetime.fromtimestamp(math.ceil(time.time() + self.full_s), UTC)
            values = {"limit": limit, "remaining": left, "reset": f"{reset:%Y-%m-%dT%H:%M:%SZ}"}
            named = {f"anthropic-ratelimit-requests-{name}": values[name] for name in values}
        else:
            values = {"limit": limit, "remaining": left, "reset": f"{math.ceil(self.full_s)}s"}
            named = {f"x-ratelimit-{name}-requests": values[name] for name in values}
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in named.items()]


class RateLimits:
    """A bucket for each key."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Fills the buckets.

        Args:
            per_minute: Requests a minute; 0 for any number.
            clock: Seconds that never go back.
        """
        self._per_minute = per_minute
        self._clock = clock
        # As many as there are keys: whoever has none never comes here.
        self._buckets: dict[Caller, Bucket] = {}

    def take(self, caller: Caller) -> Allowance | None:
        """Takes a token for a request, if there is one.

        Returns:
            What is left; None where there is no limit.
        """
        if not self._per_minute:
            return None
        now = self._clock()
        bucket = self._buckets.setdefault(caller, Bucket(self._per_minute, now))
        wait_s = bucket.take(now)
        return Allowance(self._per_minute, int(bucket.num_tokens), bucket.full_s, wait_s)
