"""A core with a warm tier, and its restarts, without an engine thread."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from pathlib import Path

from engine.core import EngineCore
from engine.persistence import Persistence
from engine.scheduler import SchedulerLimits
from engine.telemetry import Telemetry
from tests.engine.counting_model import CountingRunner, make_core

LIMIT_S = 20.0


class DiskCore:
    """A core on a folder. What its disk thread posts is done here, as the engine would do it."""

    def __init__(
        self,
        folder: Path,
        *,
        num_blocks: int = 64,
        limits: SchedulerLimits | None = None,
        disk_budget_bytes: int = 1 << 30,
        fingerprint: str = "counting",
        runner: CountingRunner | None = None,
    ) -> None:
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.core: EngineCore
        self.runner: CountingRunner
        self.telemetry: Telemetry
        self.core, self.runner, self.telemetry = make_core(
            num_blocks=num_blocks,
            limits=limits,
            folder=folder,
            post=self._posted.put,
            disk_budget_bytes=disk_budget_bytes,
            fingerprint=fingerprint,
            runner=runner,
        )

    @property
    def persistence(self) -> Persistence:
        assert self.core.persistence is not None
        return self.core.persistence

    def do_posted(self, wait_s: float = 0.0) -> None:
        """Does what was posted; waits for the first thing if nothing was."""
        try:
            action = self._posted.get(timeout=wait_s) if wait_s else self._posted.get_nowait()
            while True:
                action()
                action = self._posted.get_nowait()
        except queue.Empty:
            return

    def do_next(self) -> None:
        """Does the next thing that is posted."""
        self._posted.get(timeout=LIMIT_S)()

    def run(self) -> None:
        """Steps until nothing is left to do."""
        deadline_s = time.monotonic() + LIMIT_S
        while self.core.scheduler.has_work:
            assert time.monotonic() < deadline_s
            self.do_posted(0.0 if self.core.scheduler.can_step else 0.05)
            if self.core.scheduler.can_step:
                self.core.step()

    def await_saved(self, agent_id: str) -> None:
        """Waits until the disk has acknowledged all of an agent's cache."""
        deadline_s = time.monotonic() + LIMIT_S
        agent = self.core.agents.get(agent_id)
        while agent.saved is None or agent.saved.num_tokens < len(agent.token_ids):
            assert time.monotonic() < deadline_s
            self.do_posted(0.05)

    def close(self, flush_s: float = LIMIT_S) -> None:
        """Ends the tier, as the engine does at its end."""
        self.persistence.tier.close(flush_s)
        self.do_posted()
