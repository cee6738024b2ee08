"""The scene of a change of model half-way through."""

from __future__ import annotations

import dataclasses

from engine.scripted_cast import ACTIVE
from engine.scripted_models import SHELF, UNLOADED_DEVICE
from engine.scripted_stage import event
from engine.snapshot import (
    AgentRow,
    AgentStatus,
    BatchRow,
    EngineSnapshot,
    EngineStatus,
    PoolRow,
    SwapPhase,
    SwapRow,
)


def swapping(before: EngineSnapshot) -> EngineSnapshot:
    """The next model is being read; whoever had something to say waits for it.

    Args:
        before: The state when it began.
    """
    to_model = SHELF[2].model_id
    num_waiting = sum(row.status in ACTIVE for row in before.agents)
    swap = SwapRow(
        from_model=before.model,
        to_model=to_model,
        phase=SwapPhase.LOADING,
        progress=0.62,
        elapsed_s=5.3,
        eta_s=4.1,
        num_waiting=num_waiting,
    )
    return dataclasses.replace(
        before,
        status=EngineStatus.SWAPPING,
        status_text=f"{swap.phase}: {to_model}",
        progress=swap.progress,
        model_detail=None,
        device_detail=UNLOADED_DEVICE,
        swap=swap,
        pool=PoolRow(),
        disk=dataclasses.replace(before.disk, num_pending=0),
        batch=BatchRow(num_waiting=num_waiting, oldest_wait_s=5.3),
        throughput=dataclasses.replace(before.throughput, prefill_tok_s=0.0, decode_tok_s=0.0),
        agents=tuple(_waiting(row) for row in before.agents),
        events=(*before.events, event(5, "swap", f"to {to_model}: running turns may finish")),
    )


def _waiting(row: AgentRow) -> AgentRow:
    """An agent while no model is there: its turn waits, its cache is on disk."""
    is_active = row.status in ACTIVE
    at_rest = AgentStatus.WARM if row.warm_bytes else AgentStatus.COLD
    return dataclasses.replace(
        row,
        status=AgentStatus.QUEUED if is_active else at_rest,
        wait_s=max(row.wait_s, 3.8) if is_active else 0.0,
        hot_bytes=0,
        shared_bytes=0,
        decode_tok_s=0.0,
        prefill_progress=1.0,
        eta_s=None,
    )
