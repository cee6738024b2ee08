"""What an engine's core is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.cache.disk.tier import DiskTier
from engine.cache.spec import CacheSpec
from engine.models.chat import ModelChat
from engine.pressure import MemoryAccess
from engine.read_ahead import Post
from engine.runtime.runner import ModelRunner
from engine.scheduler import SchedulerLimits
from engine.telemetry import Telemetry


def _at_once(action: Callable[[], None]) -> None:
    action()


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreParts:
    """What a core is made of.

    Attributes:
        runner: Runs the model.
        chat: The model's text side.
        spec: What its cache looks like.
        fingerprint: Identity of its weights, config and tokenizer.
        reuses: Whether its cache may be cut and restored.
        num_blocks: Size of the pool.
        limits: Bounds of the scheduler.
        telemetry: Takes events and measurements.
        tier: The warm tier, not yet open; None keeps nothing on disk.
        post: Has something done on the engine's thread, soon; may be called from any thread.
        memory: How memory is read and given back; None trusts the pool's own sum.
    """

    runner: ModelRunner
    chat: ModelChat
    spec: CacheSpec
    fingerprint: str
    reuses: bool
    num_blocks: int
    limits: SchedulerLimits
    telemetry: Telemetry
    tier: DiskTier | None = None
    post: Post = _at_once
    memory: MemoryAccess | None = None
