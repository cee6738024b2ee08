"""From nothing to a core that serves: device, model, self-test, pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from engine.cache.disk.folder_lock import FolderLock
from engine.cache.disk.records import KVSpace
from engine.cache.disk.tier import DiskLimits, DiskTier
from engine.cache.quantisation import format_words
from engine.core import EngineCore
from engine.core_parts import CoreParts
from engine.kv_quality import known_change, quality_words
from engine.memory import MemoryLimits, fitting_budget, size_text
from engine.models.catalog import ModelSource
from engine.models.chat import ModelChat
from engine.pressure import MemoryAccess
from engine.publisher import batch_row, disk_row
from engine.read_ahead import Post
from engine.runtime import device
from engine.runtime.device import DevicePlan, DeviceProfile
from engine.runtime.device_memory import (
    give_back_memory,
    read_memory,
    read_memory_and_peak,
)
from engine.runtime.loader import LoadedModel, load
from engine.runtime.selftest_record import SelfTestRecords
from engine.settings import DiskSettings, EngineSettings, Progress
from engine.snapshot import DeviceRow, ModelRow
from engine.telemetry import Telemetry

AUTO_BUDGET_SHARE = 0.25
"""Share of the device's memory limit that the KV cache takes when no budget is set."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that was found and whose text side can be read; nothing of it is in memory yet.

    Attributes:
        source: Where it is, and what is set for it.
        chat: Its text side.
    """

    source: ModelSource
    chat: ModelChat


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A core with its model and device.

    Attributes:
        core: Serves turns.
        found: The model as it was found.
        check_s: Seconds that its self-test took.
        rebuild_s: Seconds that making the pool and reading what is on disk took.
        model_row: The model, for the snapshot.
        device_row: The device, for the snapshot; memory readings are taken anew each time.
        memory_limits: What may be used.
    """

    core: EngineCore
    found: FoundModel
    check_s: float
    rebuild_s: float
    model_row: ModelRow
    device_row: DeviceRow
    memory_limits: MemoryLimits

    def snapshot_parts(self, now_s: float) -> dict[str, Any]:
        """The snapshot's fields that need a model.

        Args:
            now_s: Monotonic seconds.
        """
        core = self.core
        pool, rows = core.publisher.draw(core.stepper.reading, now_s)
        memory = read_memory()
        return {
            "model": self.model_row.model_id,
            "device": self.device_row.name,
            "model_detail": self.model_row,
            "device_detail": DeviceRow(
                name=self.device_row.name,
                description=self.device_row.description,
                fast_paths=self.device_row.fast_paths,
                fallbacks=self.device_row.fallbacks,
                memory_used_bytes=memory.used_bytes(self.memory_limits),
                memory_active_bytes=memory.active_bytes,
                memory_limit_bytes=self.memory_limits.device_bytes,
            ),
            "pool": pool,
            "disk": disk_row(core.persistence),
            "batch": batch_row(core.scheduler, core.stepper.reading, now_s),
            "agents": rows,
        }


def find(find_model: Callable[[Progress], ModelSource], progress: Progress) -> FoundModel:
    """Finds a model and reads its text side; may run on any thread.

    Args:
        find_model: Finds it.
        progress: Told how far it is.

    Raises:
        ModelNotFoundError: There is none.
        ModelLoadError: It cannot be read; the message says what is wrong with it.
    """
    source = find_model(progress)
    return FoundModel(source, ModelChat(source.path, source.defaults, source.fingerprint))


def in_format(found: FoundModel, kv_bits: int | None) -> FoundModel:
    """A model that was found, its keys and values to be kept otherwise than is set for it.

    Args:
        found: The model.
        kv_bits: Bits of a number; 0 for lossless, None for what is set.
    """
    if kv_bits is None:
        return found
    defaults = replace(found.source.defaults, kv_bits=kv_bits)
    return replace(found, source=replace(found.source, defaults=defaults))


def load_engine(
    settings: EngineSettings,
    found: FoundModel,
    plan: DevicePlan,
    telemetry: Telemetry,
    progress: Progress,
    post: Post,
    lock: FolderLock | None,
) -> LoadedEngine:
    """Loads a model; runs on the engine's thread, which owns mlx from here on.

    Args:
        settings: How to load it.
        found: What to load.
        plan: What ``device.prepare`` returned, before mlx was imported.
        telemetry: Takes events.
        progress: Told how far it is.
        post: Has something done on the engine's thread, soon.
        lock: The data folder's lock, which may be held already; None makes one.

    Raises:
        DataFolderInUseError: Another Stoker keeps its caches in the same folder.
        ModelLoadError: There is no such model, or it cannot be run.
    """
    began_s = time.monotonic()
    source, chat = found.source, found.chat
    profile = _within(device.detect(plan), settings.memory_limit_bytes)
    model = load(
        source.path,
        profile,
        progress,
        source.defaults.quantisation(settings.quantisation),
        SelfTestRecords(settings.cache_dir, source.fingerprint),
    )
    notes = (*profile.fallbacks, *model.notes)
    for note in notes:
        telemetry.note("fallback", note, "warning")
    if chat.why_no_chat:
        telemetry.note("model", chat.why_no_chat, "warning")
    if chat.why_calls_are_free:
        telemetry.note("model", chat.why_calls_are_free, "warning")
    kv_change = known_change(settings.cache_dir, source.fingerprint, model.quantisation)
    if model.quantisation:
        telemetry.note("model", f"KV {quality_words(model.quantisation, kv_change)}", "info")
    loaded_s = time.monotonic()
    core = _core(settings, telemetry, post, profile, model, found, lock)
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
        kv_format=format_words(model.quantisation),
        kv_perplexity_change=kv_change,
    )
    device_row = DeviceRow(
        name=profile.name,
        description=profile.description,
        fast_paths=(*profile.fast_paths, *model.fast_paths),
        fallbacks=notes,
    )
    return LoadedEngine(
        core=core,
        found=found,
        check_s=model.check_s,
        rebuild_s=time.monotonic() - loaded_s,
        model_row=model_row,
        device_row=device_row,
        memory_limits=profile.memory_limits,
    )


def _core(
    settings: EngineSettings,
    telemetry: Telemetry,
    post: Post,
    profile: DeviceProfile,
    model: LoadedModel,
    found: FoundModel,
    lock: FolderLock | None,
) -> EngineCore:
    spec, source = model.runner.spec, found.source
    return EngineCore(
        CoreParts(
            runner=model.runner,
            chat=found.chat,
            spec=spec,
            fingerprint=source.fingerprint,
            reuses=model.restores,
            num_blocks=spec.num_blocks(_budget_bytes(settings, profile.memory_limits, telemetry)),
            limits=settings.limits,
            telemetry=telemetry,
            tier=_tier(
                settings.disk,
                KVSpace(source.fingerprint, spec.kv_format),
                source.model_id,
                telemetry,
                post,
                lock,
            ),
            post=post,
            memory=MemoryAccess(profile.memory_limits, read_memory_and_peak, give_back_memory),
        )
    )


def _within(profile: DeviceProfile, limit_bytes: int) -> DeviceProfile:
    """The device with the user's own limit, if there is one."""
    if not limit_bytes:
        return profile
    return replace(profile, memory_limits=replace(profile.memory_limits, device_bytes=limit_bytes))


def _budget_bytes(settings: EngineSettings, limits: MemoryLimits, telemetry: Telemetry) -> int:
    """What the KV cache gets: what was asked for, as far as the model leaves room for it."""
    asked = settings.kv_budget_bytes or int(limits.device_bytes * AUTO_BUDGET_SHARE)
    give_back_memory()
    reading = read_memory()
    fitting = fitting_budget(asked, reading, limits)
    if fitting < asked:
        used, limit = size_text(reading.used_bytes(limits)), size_text(limits.device_bytes)
        telemetry.note(
            "memory",
            f"the KV cache gets {size_text(fitting)} instead of {size_text(asked)}: the model and "
            f"the program take {used} of {limit}",
            "warning",
        )
    return fitting


def _tier(
    disk: DiskSettings | None,
    space: KVSpace,
    model_id: str,
    telemetry: Telemetry,
    post: Post,
    lock: FolderLock | None,
) -> DiskTier | None:
    """The warm tier, not yet open; None where none is wanted."""
    if disk is None:
        return None

    def note(kind: str, text: str, level: str) -> None:
        # The tier notes on its own thread; events belong to the engine's.
        post(lambda: telemetry.note(kind, text, level))

    limits = DiskLimits(budget_bytes=disk.budget_bytes)
    return DiskTier(disk.folder, space, limits, note, model_id=model_id, lock=lock)
