"""Pulls from a hub that stands in, into a cache of the test's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from app.pull.patience import Patience
from app.pull.progress import PullProgress
from app.pull.pull import PulledModel, Puller
from app.pull.reference import HubAddress, ModelReference
from tests.pull.hub_stand_in import (
    COMMIT,
    HubStandIn,
    model_files,
)

FIRST, SECOND = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
QUICK = Patience(connect_s=2, silence_s=0.3, num_attempts=3, first_wait_s=0.01, max_wait_s=0.05)
NEEDED = {name for name in model_files() if name.startswith(("config", "tokenizer", "model."))} | {
    FIRST,
    SECOND,
}


def cache() -> Path:
    return Path(os.environ["HF_HUB_CACHE"])


def repository() -> Path:
    return cache() / "models--org--name"


def partials() -> list[Path]:
    return sorted(repository().glob("blobs/*.stoker-partial"))


def pull(
    hub: HubStandIn,
    text: str = "org/name",
    *,
    token: str = "",
    report: Callable[[PullProgress], None] = lambda _progress: None,
    stop: threading.Event | None = None,
) -> PulledModel:
    puller = Puller(
        address=HubAddress(hub.url, token),
        cache=cache(),
        report=report,
        stop=stop or threading.Event(),
        patience=QUICK,
    )
    return puller.pull(ModelReference.parse(text))


def snapshot(commit: str = COMMIT) -> dict[str, bytes]:
    folder = repository() / "snapshots" / commit
    return {path.name: path.read_bytes() for path in folder.iterdir()}
