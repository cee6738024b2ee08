"""Holds the model that serves: loads it, lets it go, takes another."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.cache.carried import CarriedAgent, carried, take_in
from engine.cache.disk.folder_lock import FolderHold, FolderLock
from engine.cache.quantisation import KVQuantisation
from engine.errors import EngineFailedError
from engine.model_history import ModelHistory, ModelRun
from engine.read_ahead import Post
from engine.settings import EngineSettings, Progress
from engine.telemetry import Telemetry

if TYPE_CHECKING:
    from engine.core import EngineCore
    from engine.loading import FoundModel, LoadedEngine
    from engine.models.defaults import ModelDefaults
    from engine.runtime.device import DevicePlan

FIND_SHARE = 0.3
"""Share of a first load that finding the model may take: it may have to be made."""


class ModelHost:
    """One model at a time, and what outlives it. Belongs to the engine's thread.

    Attributes:
        loaded: The model; None before the first and between two.
        history: What loading and running each model took.
    """

    def __init__(self, settings: EngineSettings, telemetry: Telemetry, post: Post) -> None:
        """Has no model yet.

        Args:
            settings: What it is told.
            telemetry: Takes events.
            post: Has something done on the engine's thread, soon.
        """
        self.loaded: LoadedEngine | None = None
        self.history = ModelHistory(settings.cache_dir)
        self._settings = settings
        self._telemetry = telemetry
        self._post = post
        self._plan: DevicePlan | None = None
        self._lock = FolderLock(settings.disk.folder) if settings.disk else None
        self._hold = FolderHold(self._lock) if self._lock else None
        self._agents: tuple[CarriedAgent, ...] = ()

    @property
    def core(self) -> EngineCore:
        """Serves turns.

        Raises:
            EngineFailedError: No model is loaded.
        """
        if self.loaded is None:
            raise EngineFailedError("the engine has no model")
        return self.loaded.core

    def quantisation(self, defaults: ModelDefaults) -> KVQuantisation | None:
        """How keys and values of a model are kept; None for lossless.

        Args:
            defaults: What is set for it.
        """
        return defaults.quantisation(self._settings.quantisation)

    def load_first(self, progress: Progress) -> None:
        """Prepares the device, then finds and loads the model of the settings.

        Args:
            progress: Told how far it is.

        Raises:
            StokerError: It cannot be; the message says why.
        """
        began_s = time.monotonic()
        from engine.runtime import device

        progress(0.0, "preparing the device")
        # Before anything imports mlx: it binds its matmul when it is loaded.
        self._plan = device.prepare(self._settings.cache_dir)
        from engine.loading import find

        def finding(share: float, text: str) -> None:
            progress(share * FIND_SHARE, text)

        def loading(share: float, text: str) -> None:
            progress(FIND_SHARE + share * (1.0 - FIND_SHARE), text)

        self.load(find(self._settings.find_model, finding), loading, began_s)

    def load(self, found: FoundModel, progress: Progress, began_s: float) -> None:
        """Loads a model that was found, and takes in the agents that the last one had.

        Args:
            found: The model.
            progress: Told how far it is.
            began_s: Since when it is waited for, monotonic seconds.

        Raises:
            StokerError: It cannot be loaded; the message says why.
        """
        from engine.loading import load_engine

        assert self._plan is not None
        loaded = load_engine(
            self._settings, found, self._plan, self._telemetry, progress, self._post, self._lock
        )
        take_in(loaded.core.agents, self._agents)
        self.loaded = loaded
        model = loaded.model_row
        seconds = time.monotonic() - began_s
        self._telemetry.loaded(seconds)
        self._telemetry.note(
            "load", f"{model.model_id} in {seconds:.1f} s, batching {model.batching}"
        )
        self.history.put(found.source.fingerprint, ModelRun(load_s=model.load_s))
        # A full collection over what mlx-lm imports stops every thread for a tenth of a second.
        # All of it stays to the end, so later collections need not look at it.
        gc.collect()
        gc.freeze()

    def save(self, flush_s: float) -> int:
        """Writes what the disk has not got yet of any agent, for a limited time.

        The folder stays this process's own.

        Args:
            flush_s: The limit in seconds.

        Returns:
            Tokens of caches that are not on disk now, and that go with the model.
        """
        core = self.core
        persistence = core.persistence
        if persistence is None:
            return sum(len(agent.token_ids) for agent in core.agents)
        if self._hold is not None and persistence.tier.stats.is_on:
            self._hold.acquire()
        for agent in list(core.agents):
            if agent.block_table and not persistence.has_agent(agent):
                persistence.keep_agent(agent)
        core.close(flush_s)
        return sum(
            max(0, len(agent.token_ids) - persistence.num_disk_tokens(agent))
            for agent in core.agents
        )

    def unload(self) -> FoundModel:
        """Lets the model go and gives its memory back; it must have been saved.

        Returns:
            What would load it again.
        """
        from engine.runtime.device_memory import give_back_memory
        from engine.runtime.loader import let_go

        loaded = self.loaded
        assert loaded is not None
        source = loaded.found.source
        rate = loaded.core.scheduler.prefill_eta_s(1)
        run = ModelRun(load_s=loaded.model_row.load_s, prefill_tok_s=1 / rate if rate else None)
        self.history.put(source.fingerprint, run)
        self._agents = carried(loaded.core.agents)
        # What was changed while it ran holds on.
        self._settings = replace(self._settings, limits=loaded.core.scheduler.limits)
        found = loaded.found
        self.loaded = None
        del loaded
        let_go()
        gc.unfreeze()
        gc.collect()
        give_back_memory()
        return found

    def release_folder(self) -> None:
        """Ends the hold on the data folder that bridges two models."""
        if self._hold is not None:
            self._hold.release()

    def close(self, flush_s: float) -> None:
        """Waits for what is still to be written, for a limited time."""
        if self.loaded is not None:
            self.loaded.core.close(flush_s)
