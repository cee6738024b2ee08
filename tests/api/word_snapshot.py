"""The state of the scripted engine: a model that serves, and three agents."""

from __future__ import annotations

from engine.snapshot import (
    AgentRow,
    AgentStatus,
    BatchRow,
    DeviceRow,
    EngineEvent,
    EngineSnapshot,
    EngineStatus,
    MissCause,
    MissRow,
    ModelRow,
    PoolRow,
)
from tests.api.byte_chat_format import MAX_CONTEXT_TOKENS
from tests.api.rows import DISK, THROUGHPUT

MODEL_ID = "tiny-words"
MISS = MissRow(
    num_hot_tokens=5, num_lost_tokens=4, num_new_tokens=1, cause=MissCause.EVICTED, lost_s=0.5
)

SERVING_SNAPSHOT = EngineSnapshot(
    step=1,
    status=EngineStatus.SERVING,
    model=MODEL_ID,
    device="cpu",
    model_detail=ModelRow(model_id=MODEL_ID, max_context_tokens=MAX_CONTEXT_TOKENS),
    device_detail=DeviceRow(name="cpu", memory_used_bytes=123),
    pool=PoolRow(
        num_total_blocks=4,
        num_free_blocks=1,
        bytes_used=30,
        bytes_budget=40,
        num_evictions=2,
        num_evicted_blocks=7,
        block_states=b"\0\1\2\3",
        block_owners=b"\xff\0\0\0",
    ),
    disk=DISK,
    batch=BatchRow(num_running=3, num_waiting=2),
    throughput=THROUGHPUT,
    agents=(
        AgentRow(agent_id="repo-a", num_prompt_tokens=10, num_cached_tokens=5, miss=MISS),
        AgentRow(agent_id="session/sub", status=AgentStatus.DECODING, pinned=True),
        AgentRow(agent_id="nightly", status=AgentStatus.WARM, num_context_tokens=7420),
    ),
    events=(EngineEvent(number=1, time=0.0, kind="load", text="loaded"),),
)
