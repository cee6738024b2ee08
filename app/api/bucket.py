"""A bucket of tokens that refills as time goes by: a minute's worth, so a short burst fits in."""

from __future__ import annotations

from dataclasses import dataclass

_MINUTE_S = 60.0


@dataclass(slots=True)
class Bucket:
    """What one sender may still send.

    Attributes:
        per_minute: Tokens it holds, and that come back in a minute.
        filled_at: Monotonic seconds of the last refill.
        num_tokens: Tokens in it at that time; a new bucket is full.
    """

    per_minute: int
    filled_at: float
    num_tokens: float = -1.0

    def __post_init__(self) -> None:
        """Fills a new bucket."""
        if self.num_tokens < 0:
            self.num_tokens = self.per_minute

    def take(self, now: float) -> float:
        """Takes a token, if there is a whole one.

        Returns:
            0 if there was; otherwise the seconds until there will be.
        """
        wait_s = self.wait_s(now)
        if not wait_s:
            self.num_tokens -= 1
        return wait_s

    def wait_s(self, now: float) -> float:
        """Seconds until there is a whole token; 0 if there is one."""
        self.num_tokens = min(self.per_minute, self.num_tokens + self._tokens_in(now))
        self.filled_at = now
        return max(0.0, (1 - self.num_tokens) * _MINUTE_S / self.per_minute)

    @property
    def full_s(self) -> float:
        """Seconds from the last refill until it is full."""
        return (self.per_minute - self.num_tokens) * _MINUTE_S / self.per_minute

    def _tokens_in(self, now: float) -> float:
        return (now - self.filled_at) * self.per_minute / _MINUTE_S
