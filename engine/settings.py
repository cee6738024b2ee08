"""What an engine is told at its making."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.cache.disk.folder_lock import FolderLock
from engine.cache.quantisation import KVQuantisation
from engine.scheduler import SchedulerLimits
from engine.trace import TraceSink

if TYPE_CHECKING:
    from engine.models.catalog import ModelSource
    from engine.models.defaults import ModelDefaults
    from engine.models.entry import ModelEntry

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


class ModelShelf(Protocol):
    """The models of this machine, as an engine changes between them. Thread-safe."""

    def check(self, reference: str) -> str:
        """The id of a model that could be loaded, as far as a glance tells.

        Args:
            reference: What the settings would call it.

        Raises:
            ModelNotFoundError: There is no such model.
            ModelLoadError: It cannot be loaded; the message says why.
        """

    def find(self, reference: str, progress: Progress) -> ModelSource:
        """Finds a model, making it first if need be. Never downloads.

        Args:
            reference: What the settings would call it.
            progress: Told how far it is.

        Raises:
            ModelNotFoundError: There is no such model.
            ModelLoadError: It cannot be read or made.
        """

    def defaults(self, reference: str) -> ModelDefaults:
        """What is set for a model.

        Args:
            reference: What the settings would call it.
        """

    def entries(self) -> list[ModelEntry]:
        """Every model there is. Reads headers only."""

    def fingerprint(self, reference: str) -> str | None:
        """The fingerprint of a model, where it is known without reading its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Settings of an engine.

    Attributes:
        find_model: Finds the model, making it first if need be; runs on the engine's thread.
        shelf: The models to change between; None where the first one stays.
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
    shelf: ModelShelf | None = None
    memory_limit_bytes: int = 0
    kv_budget_bytes: int = 0
    disk: DiskSettings | None = None
    quantisation: KVQuantisation | None = None
    limits: SchedulerLimits = field(default_factory=SchedulerLimits)
    trace: TraceSink | None = None
