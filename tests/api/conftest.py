from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anthropic
import httpx
import openai
import pytest

from app.api.server import ApiServer
from app.api.settings import ApiSettings
from engine.commands import Shutdown
from tests.api.word_engine import Script, WordEngine


@dataclass
class Served:
    """A server over a real socket, with its engine and its clients."""

    engine: WordEngine
    server: ApiServer

    @property
    def url(self) -> str:
        return self.server.url

    @functools.cached_property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=10.0, trust_env=False)

    @functools.cached_property
    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key="dummy", max_retries=0)

    @functools.cached_property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="dummy", max_retries=0)


Serve = Callable[..., Served]


@contextlib.contextmanager
def serving(script: Script | None = None, settings: ApiSettings | None = None) -> Iterator[Served]:
    """Runs a server, and sees to it that its thread ends."""
    engine = WordEngine(script)
    engine.start()
    server = ApiServer(engine, settings or ApiSettings(port=0))
    server.start()
    try:
        yield Served(engine, server)
    finally:
        server.stop()
        assert server.join(10.0)
        engine.send(Shutdown(drain_s=0))
        assert engine.join(5.0)
        assert server.failure is None


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers of a test's own, for what settings or a stop would change for others."""
    with contextlib.ExitStack() as stack:
        yield lambda script=None, settings=None: stack.enter_context(serving(script, settings))


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(shared: Served) -> Served:
    """A running server with a fresh engine's memory; shared by a module's tests, for speed."""
    shared.engine.reset()
    return shared
