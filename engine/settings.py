"""What an engine is told at its making."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.scheduler import SchedulerLimits

if TYPE_CHECKING:
    from engine.models.catalog import ModelSource

Progress = Callable[[float, str], None]
"""Told the share that is done, 0-1, and what is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Settings of an engine.

    Attributes:
        find_model: Finds the model, making it first if need be; runs on the engine's thread.
        cache_dir: Where things that can be made again are kept.
        kv_budget_bytes: Bytes for the KV cache; 0 takes a quarter of the device's memory.
        batch_window_ms: How long an idle engine waits for company after the first request, in
            milliseconds.
        limits: Bounds of the scheduler.
    """

    find_model: Callable[[Progress], ModelSource]
    cache_dir: Path
    kv_budget_bytes: int = 0
    batch_window_ms: float = 10.0
    limits: SchedulerLimits = field(default_factory=SchedulerLimits)
