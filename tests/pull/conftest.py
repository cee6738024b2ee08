from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pull.hub_stand_in import HubStandIn, running_hub


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with running_hub() as running:
        yield running


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the machine's cache, proxy and credentials out of it."""
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("STOKER_HOME", str(tmp_path / "stoker"))
