"""Reads from disk that are under way, and how long they take."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

RATE_MEMORY = 0.8
"""Weight of the past in the running average of seconds per token."""


@dataclass(frozen=True, slots=True)
class Read:
    """One read.

    Attributes:
        num_tokens: Tokens whose blocks are wanted.
        began_s: When it was queued, monotonic seconds.
    """

    num_tokens: int
    began_s: float


class Reads:
    """Who waits for which read. Belongs to the engine's thread."""

    def __init__(self) -> None:
        """Starts with nothing read and nothing measured."""
        self._reads: dict[Hashable, Read] = {}
        self._s_per_token: float | None = None

    def begin(self, owner: Hashable, num_tokens: int, now_s: float) -> None:
        """A read was queued for a turn, or for an agent between its turns."""
        self._reads[owner] = Read(num_tokens, now_s)

    def end(self, owner: Hashable, num_tokens: int, now_s: float) -> float:
        """A read has ended.

        Args:
            owner: For whom it was begun.
            num_tokens: Tokens that came.
            now_s: Monotonic seconds.

        Returns:
            Seconds that it took; 0 if a read for the same owner ended before.
        """
        read = self._reads.pop(owner, None)
        if read is None:
            return 0.0
        seconds = now_s - read.began_s
        if num_tokens:
            measured = seconds / num_tokens
            past = measured if self._s_per_token is None else self._s_per_token
            self._s_per_token = RATE_MEMORY * past + (1 - RATE_MEMORY) * measured
        return seconds

    def num_tokens(self, owner: Hashable) -> int:
        """Tokens that are being read for somebody; 0 when nothing is."""
        read = self._reads.get(owner)
        return read.num_tokens if read else 0

    def eta_s(self, owner: Hashable, now_s: float) -> float | None:
        """Estimated seconds until all is read; None without a read or a measured rate."""
        read = self._reads.get(owner)
        if read is None or self._s_per_token is None:
            return None
        return max(0.0, read.num_tokens * self._s_per_token - (now_s - read.began_s))
