"""From the engine's thread to the API's loop, with one wake-up per engine step."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from engine.request import Delta


class Mailbox(Protocol):
    """Where the news of one turn arrives, on the loop's thread."""

    def receive(self, news: Delta | None) -> None:
        """Takes a delta; None says that the admission was decided."""


class DeltaBridge:
    """Carries the deltas of all turns to the loop.

    A decode step feeds every running turn at once. One shared queue makes that one wake-up of the
    loop, where a call per turn would cost the engine's thread a system call each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Makes a bridge to a running loop."""
        self._loop = loop
        self._news: deque[tuple[Mailbox, Delta | None]] = deque()
        self._wake_up_due = False

    def post(self, mailbox: Mailbox, news: Delta | None) -> None:
        """Queues news for a mailbox; called on any thread, never blocks."""
        self._news.append((mailbox, news))
        if self._wake_up_due:
            return
        self._wake_up_due = True
        if self._loop.is_closed():
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            # The loop closed in between: the server has stopped and nobody reads any more.
            self._news.clear()

    def _deliver(self) -> None:
        # Cleared before the queue is read: whatever is appended later schedules a wake-up itself.
        self._wake_up_due = False
        for _ in range(len(self._news)):
            mailbox, news = self._news.popleft()
            mailbox.receive(news)
