"""The whole state at one moment, and its JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from engine.snapshot.agent import AgentRow
from engine.snapshot.batch import BatchRow, ThroughputRow
from engine.snapshot.event import EngineEvent
from engine.snapshot.json_form import FormatError, RowReader, to_value
from engine.snapshot.machine import DeviceRow, ModelRow
from engine.snapshot.pool import BlockState, BlockTier, DiskRow, PoolRow
from engine.snapshot.swap import SwapReport, SwapRow


class EngineStatus(StrEnum):
    """What the engine is doing as a whole."""

    STARTING = "starting"
    LOADING = "loading"
    SERVING = "serving"
    SWAPPING = "swapping"
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
        swap: The change of model under way, if there is one.
        last_swap: The last one that was done, if there was one.
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
    swap: SwapRow | None = None
    last_swap: SwapReport | None = None
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
    data: dict[str, Any] = to_value(snapshot)
    return data


def from_json(data: object, reader: RowReader | None = None) -> EngineSnapshot:
    """The inverse of ``to_json``; what another version has more or less does not matter.

    Args:
        data: The snapshot as data.
        reader: Knows afterwards where its version differs from this one.

    Raises:
        FormatError: The data is no snapshot.
    """
    reader = reader or RowReader()
    snapshot = reader.row(EngineSnapshot, data)
    return dataclasses.replace(snapshot, pool=checked_pool(snapshot.pool, reader))


def agent_from_json(data: object) -> AgentRow:
    """One agent of ``to_json``, or of the API; what else the data says of it is ignored.

    Raises:
        FormatError: The data is no agent.
    """
    return RowReader().row(AgentRow, data)


def checked_pool(pool: PoolRow, reader: RowReader) -> PoolRow:
    """A pool from outside whose map can be drawn.

    Raises:
        FormatError: The two halves of its map do not belong together.
    """
    if len(pool.block_states) != len(pool.block_owners):
        raise FormatError("pool: the block map has more states than owners, or fewer")
    if pool.block_tiers and len(pool.block_tiers) != len(pool.block_states):
        raise FormatError("pool: the block map has more states than tiers, or fewer")
    states = _known(BlockState, pool.block_states, BlockState.HOT, reader)
    tiers = _known(BlockTier, pool.block_tiers, BlockTier.MEMORY, reader)
    if states is pool.block_states and tiers is pool.block_tiers:
        return pool
    return dataclasses.replace(pool, block_states=states, block_tiers=tiers)


def _known(kind: type[IntEnum], codes: bytes, instead: IntEnum, reader: RowReader) -> bytes:
    """Half of a map in which what is not known is what can still be said: it holds something."""
    known = bytes(kind)
    strange = codes.translate(None, known)
    if not strange:
        return codes
    reader.note_unknown(f"{kind.__name__} {max(strange)}")
    return codes.translate(bytes(code if code in known else instead for code in range(256)))
