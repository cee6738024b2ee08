"""The dashboard on a real engine: what keys do to it while clients stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from textual.pilot import Pilot

from app.api.server import ApiServer
from app.api.settings import ApiSettings
from app.dashboard.app import StokerApp
from engine.engine import Engine
from tests.dashboard.driving import until
from tests.dashboard.screen_text import screen_text, toasts
from tests.engine.real_engine import running_engine

pytestmark = pytest.mark.slow
LONG = 2000
"""Tokens of a reply that goes on for as long as a test looks at it."""
NUM_COMPARED = 60
STORY = "Write a very long story about a river. "
QUESTION = "Which colours does the flag of Italy have? " * 20


@dataclass
class Stream:
    """A turn over HTTP, and what has come of it."""

    url: str
    agent: str
    prompt: str
    max_tokens: int = 16
    text: str = ""
    num_deltas: int = 0
    usage: dict[str, int] = field(default_factory=dict)
    stop_reason: str = ""

    async def run(self) -> Stream:
        """Streams it to its end."""
        body = {
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": True,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        headers = {"x-agent-id": self.agent}
        async with (
            httpx.AsyncClient(timeout=120, trust_env=False) as client,
            client.stream("POST", self.url, json=body, headers=headers) as reply,
        ):
            assert reply.status_code == 200
            async for line in reply.aiter_lines():
                if line.startswith("data: "):
                    self._take(json.loads(line[6:]))
        return self

    def _take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "message_start":
                self.usage = event["message"]["usage"]
            case "content_block_delta":
                self.text += event["delta"].get("text", "")
                self.num_deltas += 1
            case "message_delta":
                self.stop_reason = event["delta"]["stop_reason"]


@pytest.fixture(scope="module")
def engine(bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine(bundled_models_dir, tmp_path_factory.mktemp("caches")) as engine:
        yield engine


@asynccontextmanager
async def dashboard(engine: Engine) -> AsyncIterator[tuple[Pilot[bool], StokerApp, str]]:
    """The dashboard of an engine that serves, and the address of its messages."""
    server = ApiServer(engine, ApiSettings(port=0))
    server.start()
    app = StokerApp(engine, address=f"127.0.0.1:{server.port}", start=lambda: None)
    try:
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            yield pilot, app, f"http://127.0.0.1:{server.port}/v1/messages"
    finally:
        server.stop()
        assert server.join(10.0)


def hot_bytes(engine: Engine, agent: str) -> int:
    row = engine.snapshot.agent(agent)
    assert row is not None
    return row.hot_bytes


async def select(pilot: Pilot[bool], agent: str) -> None:
    """Puts the cursor on an agent, by its name."""
    await pilot.press("slash", *agent, "enter")
    await until(pilot, lambda: "agents 1 of " in screen_text(pilot.app))


async def until_said(pilot: Pilot[bool], words: str) -> None:
    await until(pilot, lambda: any(words in toast for toast in toasts(pilot.app)))


def has_gone_on(stream: Stream, num_deltas: int) -> bool:
    return stream.num_deltas > num_deltas


async def hang_up(tasks: list[asyncio.Task[Stream]]) -> None:
    """Ends clients whose replies would go on."""
    for task in tasks:
        assert not task.done()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def assert_as_alone(stream: Stream) -> None:
    """What was said is what the same prompt brings when nobody does anything beside it."""
    alone = await Stream(stream.url, "alone", stream.prompt, NUM_COMPARED).run()
    assert alone.text
    assert stream.text.startswith(alone.text)


def flow(streams: list[Stream]) -> Callable[[], bool]:
    """Whether every stream has begun."""
    return lambda: all(stream.num_deltas > 2 for stream in streams)


async def test_an_eviction_by_keys_disturbs_no_stream_and_can_be_undone(engine: Engine) -> None:
    async with dashboard(engine) as (pilot, app, url):
        first = await Stream(url, "sleeper", QUESTION).run()
        streams = [Stream(url, f"busy-{n}", f"{n}. {STORY}", LONG) for n in range(2)]
        tasks = [asyncio.create_task(stream.run()) for stream in streams]
        await until(pilot, flow(streams))

        await select(pilot, "sleeper")
        await pilot.press("e")
        await until(pilot, lambda: "Evict the cache of sleeper?" in screen_text(app))
        await pilot.press("y")
        await until_said(pilot, "sleeper evicted")
        await until(pilot, lambda: hot_bytes(engine, "sleeper") == 0)
        nums_then = [stream.num_deltas for stream in streams]
        await pilot.press("u")
        await until_said(pilot, "sleeper back in memory")
        await until(pilot, lambda: hot_bytes(engine, "sleeper") > 0)

        for stream, num_then in zip(streams, nums_then, strict=True):
            await until(pilot, partial(has_gone_on, stream, max(num_then, NUM_COMPARED)))
        await hang_up(tasks)
        again = await Stream(url, "sleeper", QUESTION).run()
        assert again.text == first.text
        assert again.usage["cache_read_input_tokens"] > 0
        await assert_as_alone(streams[0])


async def test_an_abort_by_keys_ends_one_stream_and_no_other(engine: Engine) -> None:
    async with dashboard(engine) as (pilot, app, url):
        streams = [Stream(url, name, f"{name}. {STORY}", LONG) for name in ("kept", "ended")]
        tasks = [asyncio.create_task(stream.run()) for stream in streams]
        await until(pilot, flow(streams))

        await select(pilot, "ended")
        await pilot.press("x")
        await until(pilot, lambda: "Abort the turn of ended?" in screen_text(app))
        await pilot.press("y")
        await until_said(pilot, "of ended aborted")
        num_then = streams[0].num_deltas
        ended = await tasks[1]
        assert ended.num_deltas < LONG
        await until(pilot, partial(has_gone_on, streams[0], max(num_then, NUM_COMPARED)))
        await hang_up(tasks[:1])
        await assert_as_alone(streams[0])
