"""Work in lanes: one thing after the other within a lane, lanes beside each other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable

Job = Callable[[], None]


class Lanes:
    """Runs jobs on threads of their own, which end with the last job of their lane.

    The threads are daemons: what still runs when the program ends is not waited for.
    """

    def __init__(self, name: str) -> None:
        """Has no lane yet.

        Args:
            name: Of the threads.
        """
        self._name = name
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[Job]] = {}

    def add(self, lane: Hashable, job: Job) -> None:
        """Queues a job behind the others of its lane; it must not raise."""
        with self._lock:
            if lane in self._waiting:
                self._waiting[lane].append(job)
                return
            self._waiting[lane] = deque([job])
        threading.Thread(target=self._run, args=(lane,), name=self._name, daemon=True).start()

    def _run(self, lane: Hashable) -> None:
        while True:
            with self._lock:
                jobs = self._waiting[lane]
                if not jobs:
                    del self._waiting[lane]
                    return
                job = jobs.popleft()
            job()
