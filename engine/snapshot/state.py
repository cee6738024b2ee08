"""The whole state at one moment, and its JSON form."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.snapshot.agent import AgentRow, AgentStatus, TurnRow
from engine.snapshot.batch import BatchRow, ThroughputRow
from engine.snapshot.event import EngineEvent
from engine.snapshot.machine import DeviceRow, ModelRow
from engine.snapshot.miss import MissCause, MissRow
from engine.snapshot.pool import DiskRow, PoolRow


class EngineStatus(StrEnum):
    """What the engine is doing as a whole."""

    STARTING = "starting"
    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSnapshot:
    """The state of the engine at one moment.

    Attributes:
        step: Engine steps so far; unchanged means nothing moved.
        time: Wall-clock seconds since the epoch.
        uptime_s: Seconds since the engine was made.
        status: What it is doing.
        status_text: The same in words, e.g. the part of a load under way, or why it failed.
        progress: Share of a load that is done, 0-1.
        model: Id of the active model; empty before one is loaded.
        device: ``metal``, ``cuda``, ``cpu``; empty before it is known.
        model_detail: The active model.
        device_detail: The device.
        pool: The block pool.
        disk: The warm tier.
        batch: The running batch.
        throughput: Rates and totals.
        agents: One row each, most recently active first.
        events: The newest events, oldest first.
    """

    step: int = 0
    time: float = 0.0
    uptime_s: float = 0.0
    status: EngineStatus = EngineStatus.STARTING
    status_text: str = ""
    progress: float = 0.0
    model: str = ""
    device: str = ""
    model_detail: ModelRow | None = None
    device_detail: DeviceRow = field(default_factory=DeviceRow)
    pool: PoolRow = field(default_factory=PoolRow)
    disk: DiskRow = field(default_factory=DiskRow)
    batch: BatchRow = field(default_factory=BatchRow)
    throughput: ThroughputRow = field(default_factory=ThroughputRow)
    agents: tuple[AgentRow, ...] = ()
    events: tuple[EngineEvent, ...] = ()

    def agent(self, agent_id: str, namespace: str = "") -> AgentRow | None:
        """The row of one agent, or None."""
        wanted = (agent_id, namespace)
        return next((row for row in self.agents if (row.agent_id, row.namespace) == wanted), None)


EMPTY_SNAPSHOT = EngineSnapshot()


def to_json(snapshot: EngineSnapshot) -> dict[str, Any]:
    """The snapshot as JSON-serialisable data; byte maps become base64 text."""
    data = dataclasses.asdict(snapshot)
    for name in ("block_states", "block_owners"):
        data["pool"][name] = base64.b64encode(data["pool"][name]).decode("ascii")
    return data


def from_json(data: dict[str, Any]) -> EngineSnapshot:
    """The inverse of ``to_json``.

    Raises:
        KeyError, TypeError, ValueError: The data is not a snapshot of this version.
    """
    pool = dict(data["pool"])
    for name in ("block_states", "block_owners"):
        pool[name] = base64.b64decode(pool[name])
    device = dict(data["device_detail"])
    device["fast_paths"] = tuple(device["fast_paths"])
    device["fallbacks"] = tuple(device["fallbacks"])
    model = data["model_detail"]
    fields = dict(data)
    fields["status"] = EngineStatus(data["status"])
    fields["model_detail"] = ModelRow(**model) if model else None
    fields["device_detail"] = DeviceRow(**device)
    fields["pool"] = PoolRow(**pool)
    fields["disk"] = DiskRow(**data["disk"])
    fields["batch"] = BatchRow(**data["batch"])
    fields["throughput"] = ThroughputRow(**data["throughput"])
    fields["agents"] = tuple(agent_from_json(row) for row in data["agents"])
    fields["events"] = tuple(EngineEvent(**event) for event in data["events"])
    return EngineSnapshot(**fields)


def agent_from_json(data: Mapping[str, Any]) -> AgentRow:
    """One agent of ``to_json``, or of the API; what else the data says of it is ignored.

    Raises:
        KeyError, TypeError, ValueError: The data is not an agent of this version.
    """
    row, miss = _known(AgentRow, data), _known(MissRow, data["miss"])
    return AgentRow(
        **{
            **row,
            "status": AgentStatus(row["status"]),
            "miss": MissRow(**{**miss, "cause": MissCause(miss["cause"])}),
            "turns": tuple(TurnRow(**_known(TurnRow, turn)) for turn in row["turns"]),
        }
    )


def _known(row: type[AgentRow | MissRow | TurnRow], data: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of an object that a row has."""
    return {field.name: data[field.name] for field in dataclasses.fields(row)}
