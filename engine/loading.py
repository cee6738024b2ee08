"""From nothing to a core that serves: device, model, self-test, pool."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from engine.cache.disk.records import KVSpace
from engine.cache.disk.tier import DiskLimits, DiskTier
from engine.core import CoreParts, EngineCore
from engine.models.chat import ModelChat
from engine.persistence import Post
from engine.publisher import agent_row, batch_row, block_map, disk_row, pool_row
from engine.runtime import device
from engine.runtime.device import DevicePlan, DeviceProfile
from engine.runtime.loader import LoadedModel, load
from engine.settings import DiskSettings, EngineSettings, Progress
from engine.snapshot import DeviceRow, ModelRow
from engine.telemetry import Telemetry

AUTO_BUDGET_SHARE = 0.25
"""Share of the device's memory limit that the KV cache takes when no budget is set."""


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A core with its model and device.

    Attributes:
        core: Serves turns.
        chat: The model's text side.
        model_row: The model, for the snapshot.
        device_row: The device, for the snapshot; memory readings are taken anew each time.
    """

    core: EngineCore
    chat: ModelChat
    model_row: ModelRow
    device_row: DeviceRow

    def snapshot_parts(self, now_s: float) -> dict[str, Any]:
        """The snapshot's fields that need a model.

        Args:
            now_s: Monotonic seconds.
        """
        core = self.core
        order = list(core.agents)[::-1]
        blocks = block_map(core.pool, core.scheduler.running, order, core.persistence)
        memory = device.read_memory()
        rows = tuple(
            agent_row(
                agent,
                core.active_sequence(agent) if agent.num_active else None,
                blocks=blocks,
                persistence=core.persistence,
                block_bytes=core.pool.block_bytes,
                scheduler=core.scheduler,
                max_context_tokens=core.max_context_tokens,
                decode_s=core.stepper.reading.decode_s,
                now_s=now_s,
            )
            for agent in order
        )
        return {
            "model": self.model_row.model_id,
            "device": self.device_row.name,
            "model_detail": self.model_row,
            "device_detail": DeviceRow(
                name=self.device_row.name,
                description=self.device_row.description,
                fast_paths=self.device_row.fast_paths,
                fallbacks=self.device_row.fallbacks,
                memory_used_bytes=memory.footprint_bytes,
                memory_active_bytes=memory.active_bytes,
                memory_limit_bytes=self.device_row.memory_limit_bytes,
            ),
            "pool": pool_row(core.pool, core.agents, blocks),
            "disk": disk_row(core.persistence),
            "batch": batch_row(core.scheduler, core.stepper.reading, now_s),
            "agents": rows,
        }


def load_engine(
    settings: EngineSettings,
    plan: DevicePlan,
    telemetry: Telemetry,
    progress: Progress,
    post: Post,
) -> LoadedEngine:
    """Loads the model; runs on the engine's thread, which owns mlx from here on.

    Args:
        settings: What to load.
        plan: What ``device.prepare`` returned, before mlx was imported.
        telemetry: Takes events.
        progress: Told how far it is.
        post: Has something done on the engine's thread, soon.

    Raises:
        DataFolderInUseError: Another Stoker keeps its caches in the same folder.
        ModelLoadError: There is no such model, or it cannot be run.
    """
    began_s = time.monotonic()
    source = settings.find_model(lambda share, text: progress(share * 0.3, text))
    chat = ModelChat(source.path)
    profile = device.detect(plan)
    model = load(source.path, profile, lambda share, text: progress(0.3 + share * 0.7, text))
    notes = (*profile.fallbacks, *model.notes)
    for note in notes:
        telemetry.note("fallback", note, "warning")
    core = _core(settings, telemetry, post, profile, model, chat, source.fingerprint)
    model_row = ModelRow(
        model_id=source.model_id,
        path=str(source.path),
        architecture=model.architecture,
        num_parameters=model.num_parameters,
        weight_bytes=model.weight_bytes,
        max_context_tokens=core.max_context_tokens,
        kv_bytes_per_token=model.runner.spec.bytes_per_token,
        dtype=model.dtype,
        batching="ragged" if model.batches else "single",
        load_s=time.monotonic() - began_s,
    )
    device_row = DeviceRow(
        name=profile.name,
        description=profile.description,
        fast_paths=(*profile.fast_paths, *model.fast_paths),
        fallbacks=notes,
        memory_limit_bytes=profile.memory_limit_bytes,
    )
    return LoadedEngine(core, chat, model_row, device_row)


def _core(
    settings: EngineSettings,
    telemetry: Telemetry,
    post: Post,
    profile: DeviceProfile,
    model: LoadedModel,
    chat: ModelChat,
    fingerprint: str,
) -> EngineCore:
    spec = model.runner.spec
    budget_bytes = settings.kv_budget_bytes or int(profile.memory_limit_bytes * AUTO_BUDGET_SHARE)
    return EngineCore(
        CoreParts(
            runner=model.runner,
            chat=chat,
            spec=spec,
            fingerprint=fingerprint,
            reuses=model.restores,
            num_blocks=spec.num_blocks(budget_bytes),
            limits=settings.limits,
            telemetry=telemetry,
            tier=_tier(settings.disk, KVSpace(fingerprint, spec.kv_format), telemetry, post),
            post=post,
        )
    )


def _tier(
    disk: DiskSettings | None, space: KVSpace, telemetry: Telemetry, post: Post
) -> DiskTier | None:
    """The warm tier, not yet open; None where none is wanted."""
    if disk is None:
        return None

    def note(kind: str, text: str, level: str) -> None:
        # The tier notes on its own thread; events belong to the engine's.
        post(lambda: telemetry.note(kind, text, level))

    return DiskTier(disk.folder, space, DiskLimits(budget_bytes=disk.budget_bytes), note)
