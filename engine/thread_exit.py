"""Waits for a thread of the system to be gone, not only for its Python part."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

_TASKS = Path("/proc/self/task")
_LIMIT_S = 2.0
_POLL_S = 0.001
_BLIND_WAIT_S = 0.05
"""How long to wait where the system does not list a process's threads."""


def await_thread_exit(thread: threading.Thread) -> None:
    """Waits until a joined thread has also run its native clean-up.

    Before Python 3.13 ``Thread.join`` returns when the Python part of the thread has ended. mlx
    then still frees what it kept for that thread, and takes the interpreter's lock to do so. If
    the interpreter is shutting down by then, the process aborts with a core dump.

    Args:
        thread: A thread that was started and has been joined.
    """
    if sys.version_info >= (3, 13):
        return  # there, join waits for the system's thread
    if not _TASKS.is_dir():
        time.sleep(_BLIND_WAIT_S)
        return
    task = _TASKS / str(thread.native_id)
    deadline_s = time.monotonic() + _LIMIT_S
    while task.exists() and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
