"""What comes out of the engine: one frozen, JSON-serialisable snapshot, replaced whole.

The dashboard draws it, ``GET /admin/state`` returns it, recordings store it. It holds plain data
only (numbers, strings, tuples, bytes), never arrays or live objects.
"""

from engine.snapshot.agent import AgentRow, AgentStatus, TurnRow, TurnTimes
from engine.snapshot.batch import BatchRow, ThroughputRow
from engine.snapshot.durations import DurationsRow
from engine.snapshot.event import EngineEvent
from engine.snapshot.json_form import (
    FormatError,
    RowReader,
    VersionGap,
    field_names,
    to_value,
)
from engine.snapshot.machine import DeviceRow, ModelRow
from engine.snapshot.miss import MissCause, MissRow
from engine.snapshot.pool import NO_OWNER, BlockRow, BlockState, BlockTier, DiskRow, PoolRow
from engine.snapshot.state import (
    EMPTY_SNAPSHOT,
    EngineSnapshot,
    EngineStatus,
    agent_from_json,
    checked_pool,
    from_json,
    to_json,
)
from engine.snapshot.swap import (
    AgentImpact,
    ModelChoice,
    SwapParts,
    SwapPhase,
    SwapReport,
    SwapRow,
)

__all__ = [
    "EMPTY_SNAPSHOT",
    "NO_OWNER",
    "AgentImpact",
    "AgentRow",
    "AgentStatus",
    "BatchRow",
    "BlockRow",
    "BlockState",
    "BlockTier",
    "DeviceRow",
    "DiskRow",
    "DurationsRow",
    "EngineEvent",
    "EngineSnapshot",
    "EngineStatus",
    "FormatError",
    "MissCause",
    "MissRow",
    "ModelChoice",
    "ModelRow",
    "PoolRow",
    "RowReader",
    "SwapParts",
    "SwapPhase",
    "SwapReport",
    "SwapRow",
    "ThroughputRow",
    "TurnRow",
    "TurnTimes",
    "VersionGap",
    "agent_from_json",
    "checked_pool",
    "field_names",
    "from_json",
    "to_json",
    "to_value",
]
