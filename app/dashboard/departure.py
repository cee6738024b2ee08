"""Leaving in good order when nobody asked by key: a signal came, or the terminal went away."""

from __future__ import annotations

import asyncio
import select
import signal
import sys
from collections.abc import Callable

WATCH_S = 1.0
"""How often the terminal is looked at. A program that another one started, ``make`` for one, is
sent no signal when the terminal is closed."""

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def leave_on_signals(leave: Callable[[], None]) -> None:
    """Has the running loop call ``leave`` for each signal that asks the program to end."""
    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, leave)


def is_hung_up(descriptor: int) -> bool:
    """Whether the other side of a terminal is closed."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
