"""Pulls one model: looks, judges, brings, and puts it in its place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.pull.cache_folder import CacheFolder
from app.pull.errors import PullRefusedError
from app.pull.hub import Hub
from app.pull.listing import CONFIG, Listing, RemoteFile, read_listing
from app.pull.patience import DEFAULT_PATIENCE, Patience
from app.pull.progress import Meter, PullProgress
from app.pull.reference import HubAddress, ModelReference
from app.pull.transfer import Transfer
from engine.errors import ModelLoadError
from engine.models.architectures import refusal
from engine.models.plain_files import read_object
from engine.models.weight_files import INDEX_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledModel:
    """A model that is here now.

    Attributes:
        repository: Its id on the hub.
        commit: The commit that it is pinned to.
        folder: Its folder.
        size_bytes: Bytes of its files.
        num_new_bytes: Bytes that had to come for it.
    """

    repository: str
    commit: str
    folder: Path
    size_bytes: int
    num_new_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Puller:
    """Pulls models from one hub into one cache.

    Attributes:
        address: The hub.
        cache: The Hugging Face cache.
        report: Told how far it is, in the thread that pulls.
        stop: Set to end it; what came is kept.
        patience: How long the hub is waited for.
    """

    address: HubAddress
    cache: Path
    report: Callable[[PullProgress], None]
    stop: threading.Event
    patience: Patience = DEFAULT_PATIENCE

    def pull(self, model: ModelReference) -> PulledModel:
        """Brings a model, or what is missing of it.

        Args:
            model: Which.

        Raises:
            PullRefusedError: It cannot be had, or not be loaded, or there is no room for it.
            HubError: The hub cannot be reached, fails, or sends what is damaged.
            PullStoppedError: It was stopped.
            OSError: The cache cannot be written to.
        """
        folder = CacheFolder(self.cache, model)
        with Hub(self.address, self.patience, self.stop) as hub:
            listing = read_listing(hub, model)
            with folder.held():
                meter = Meter(self.report)
                transfer = Transfer(hub, model.repository, listing.commit, self.stop, meter.add)
                return _Delivery(listing, folder, meter, transfer).run()


@dataclass(frozen=True, slots=True)
class _Delivery:
    """Brings the files of one listing; the folder is held meanwhile."""

    listing: Listing
    folder: CacheFolder
    meter: Meter
    transfer: Transfer

    def run(self) -> PulledModel:
        """Brings what is missing, and makes the snapshot when all is here."""
        folder, commit = self.folder, self.listing.commit
        files = [*self.listing.small, *self.listing.weights()]
        new = [file for file in self.listing.small if not folder.has(file)]
        self.meter.expect(sum(file.size_bytes for file in files))
        num_new_bytes = self._take(self.listing.small)
        try:
            weights = self.listing.weights(_judge(folder, self.listing))
            folder.check_room(folder.num_missing_bytes(weights))
        except PullRefusedError:
            folder.drop(new)
            raise
        files = [*self.listing.small, *weights]
        self.meter.expect(sum(file.size_bytes for file in files))
        num_new_bytes += self._take(weights)
        if folder.is_complete(commit, files):
            folder.name_commit(commit)
        else:
            folder.place(commit, files)
        return PulledModel(
            repository=folder.model.repository,
            commit=commit,
            folder=folder.snapshot(commit),
            size_bytes=sum(file.size_bytes for file in files),
            num_new_bytes=num_new_bytes,
        )

    def _take(self, files: list[RemoteFile]) -> int:
        """Brings files that are not here, and returns how many bytes that were."""
        num_missing_bytes = self.folder.num_missing_bytes(files)
        self.folder.check_room(num_missing_bytes)
        for file in files:
            self.meter.begin(file.name, file.size_bytes - self.folder.num_missing_bytes([file]))
            if not self.folder.has(file):
                self.transfer.take(file, self.folder.blob(file))
        return num_missing_bytes


def _judge(folder: CacheFolder, listing: Listing) -> list[str]:
    """Refuses what could not be loaded, before its weights are fetched.

    Returns:
        The names of weight files in its index; none where it has no index.

    Raises:
        PullRefusedError: It could not.
    """
    if reason := refusal(_read(folder, listing.files[CONFIG])):
        raise PullRefusedError(
            f"{folder.model.repository} cannot be loaded: {reason}; its weights were not pulled"
        )
    if INDEX_NAME not in listing.files:
        return []
    places = _read(folder, listing.files[INDEX_NAME]).get("weight_map")
    return [str(name) for name in places.values()] if isinstance(places, dict) else []


def _read(folder: CacheFolder, file: RemoteFile) -> dict[str, Any]:
    try:
        return read_object(folder.blob(file), folder.folder.resolve())
    except ModelLoadError:
        raise PullRefusedError(
            f"{folder.model.repository} cannot be loaded: its {file.name} is damaged at the hub"
        ) from None
