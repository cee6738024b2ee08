"""What is seen of an engine from outside: its status, and the newest snapshot."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.snapshot import (
    AgentRow,
    AgentStatus,
    BatchRow,
    EngineSnapshot,
    EngineStatus,
    PoolRow,
    SwapReport,
    SwapRow,
)
from engine.telemetry import Telemetry

if TYPE_CHECKING:
    from engine.loading import LoadedEngine

PUBLISH_S = 0.1
"""Snapshots are drawn at most this often, but for changes of status."""


class Publication:
    """Draws snapshots. Belongs to the engine's thread; the snapshot may be read from any.

    Attributes:
        snapshot: The newest one.
        loaded: The model that is drawn; while there is none, what was last drawn of one stays.
        swap: The change of model under way.
        last_swap: The last one that was done.
        num_steps: Counts whatever makes a new snapshot worth drawing.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        """Has seen nothing yet.

        Args:
            telemetry: Has events, rates and totals.
        """
        self.snapshot = EngineSnapshot(time=time.time())
        self.loaded: LoadedEngine | None = None
        self.swap: SwapRow | None = None
        self.last_swap: SwapReport | None = None
        self.num_steps = 0
        self._telemetry = telemetry
        self._began_s = time.monotonic()
        self._published_s = 0.0
        self._status = EngineStatus.STARTING
        self._text = ""
        self._progress = 0.0
        self._parts: dict[str, Any] = {}

    @property
    def status(self) -> EngineStatus:
        """What the engine is doing."""
        return self._status

    @property
    def text(self) -> str:
        """The same in words."""
        return self._text

    def set_status(self, status: EngineStatus, text: str, progress: float | None = None) -> None:
        """Publishes a change of status.

        Args:
            status: What the engine is doing now.
            text: The same in words.
            progress: Share that is done, 0-1; None leaves it.
        """
        self._status, self._text = status, text
        if progress is not None:
            self._progress = progress
        self.num_steps += 1
        self.publish(at_once=True)

    def publish(self, *, at_once: bool = False) -> None:
        """Draws a snapshot, unless the last one is young.

        Args:
            at_once: Whether its age does not matter.
        """
        now_s = time.monotonic()
        if not at_once and now_s - self._published_s < PUBLISH_S:
            return
        self._published_s = now_s
        if self.loaded is not None:
            self._parts = self.loaded.snapshot_parts(now_s)
        elif self._parts:
            self._parts |= _without_model(self._parts["agents"])
        pool_use = self._parts["pool"].use if self._parts else 0.0
        shared: dict[str, Any] = {
            "step": self.num_steps,
            "time": time.time(),
            "uptime_s": now_s - self._began_s,
            "status": self._status,
            "status_text": self._text,
            "progress": self._progress,
            "swap": self.swap,
            "last_swap": self.last_swap,
            "throughput": self._telemetry.row(now_s, pool_use),
            "events": self._telemetry.events,
        }
        self.snapshot = EngineSnapshot(**shared, **self._parts)

    def fail(self, reason: str) -> None:
        """Says that the engine has failed, before anything else is tried."""
        self._status, self._text = EngineStatus.FAILED, reason

    def fail_again(self) -> None:
        """Publishes the failure without drawing anything, for drawing may be what fails."""
        self.snapshot = replace(
            self.snapshot,
            step=self.num_steps + 1,
            time=time.time(),
            status=EngineStatus.FAILED,
            status_text=self._text,
            events=self._telemetry.events,
        )


def _without_model(agents: tuple[AgentRow, ...]) -> dict[str, Any]:
    """What is left of a drawn model that is gone: its agents, with what the disk has of them."""
    rows = tuple(
        replace(
            row,
            status=AgentStatus.WARM if row.warm_bytes else AgentStatus.COLD,
            hot_bytes=0,
            shared_bytes=0,
        )
        for row in agents
    )
    return {"pool": PoolRow(), "batch": BatchRow(), "agents": rows}
