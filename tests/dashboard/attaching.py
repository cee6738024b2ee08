"""A Stoker on a real socket to attach to, with a scripted engine behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC
from pathlib import Path

from textual.pilot import Pilot

from app.agents_client import AgentsClient
from app.api.server import ApiServer
from app.api.settings import ApiSettings
from app.dashboard.action import LIVE, Power
from app.dashboard.app import StokerApp
from app.remote.engine import RemoteEngine
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene


def scripted(scene: str = "busy") -> ScriptedEngine:
    """An engine on a scene that stands still but for what it is told."""
    engine = ScriptedEngine(StillScene(SCENES[scene]()), clock=lambda: 0.0)
    engine.start()
    return engine


@contextmanager
def serving(
    engine: ScriptedEngine, port: int = 0, key: str | None = None, folder: Path | None = None
) -> Iterator[ApiServer]:
    """Serves an engine, and sees to it that the server's thread ends."""
    server = ApiServer(engine, ApiSettings(port=port, api_key=key, transfer_folder=folder))
    server.start()
    try:
        yield server
    finally:
        server.stop()
        assert server.join(10.0)
        assert server.failure is None


@asynccontextmanager
async def attached(
    url: str,
    *,
    key: str | None = None,
    size: tuple[int, int] = (120, 40),
    exports: Path | None = None,
    powers: frozenset[Power] = LIVE,
) -> AsyncIterator[tuple[Pilot[bool], StokerApp, RemoteEngine]]:
    """A dashboard that follows the Stoker at an address."""
    engine = RemoteEngine(AgentsClient(url, key))
    engine.connect()
    app = StokerApp(
        engine,
        address=url.partition("//")[2],
        source=engine,
        zone=UTC,
        exports_folder=exports,
        powers=powers,
    )
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield pilot, app, engine
