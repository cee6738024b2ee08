"""What an engine is told at its making."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cache.disk.folder_lock import FolderLock
from engine.cache.quantisation import KVQuantisation
from engine.scheduler import SchedulerLimits
from engine.trace import TraceSink

if TYPE_CHECKING:
    from engine.models.catalog import ModelSource

Progress = Callable[[float, str], None]
"""Told the share that is done, 0-1, and what is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSettings:
    """Where caches survive a restart.

    Attributes:
        folder: The data folder.
        budget_bytes: What all block files may take together.
    """

    folder: Path
    budget_bytes: int

    def check_free(self) -> None:
        """Finds out early whether another process keeps its caches here.

        Raises:
            DataFolderInUseError: It does; the message says what to do.
        """
        lock = FolderLock(self.folder)
        # A folder that cannot be written turns the warm tier off later, with an event.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock.acquire()
            lock.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Settings of an engine.

    Attributes:
        find_model: Finds the model, making it first if need be; runs on the engine's thread.
        cache_dir: Where things that can be made again are kept.
        memory_limit_bytes: What model, caches and everything else may use; 0 takes what the
            device or the machine has for us.
        kv_budget_bytes: Bytes for the KV cache; 0 takes a quarter of that limit. What the model
            leaves no room for is not taken.
        disk: Where caches survive a restart; None keeps them in memory only.
        quantisation: How keys and values of full attention are kept where nothing is set for the
            model; None for lossless.
        limits: Bounds of the scheduler.
        trace: Takes a record of every decision; None where nobody wants them.
    """

    find_model: Callable[[Progress], ModelSource]
    cache_dir: Path
    memory_limit_bytes: int = 0
    kv_budget_bytes: int = 0
    disk: DiskSettings | None = None
    quantisation: KVQuantisation | None = None
    limits: SchedulerLimits = field(default_factory=SchedulerLimits)
    trace: TraceSink | None = None
