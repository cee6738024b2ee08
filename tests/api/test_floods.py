"""Many clients at once, and slow ones: all are answered or cut off, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from app.api.settings import ApiSettings
from tests.api.conftest import Serve, Served
from tests.api.raw_http import exchange, head, post, read_reply
from tests.api.word_engine import Script

BODY: Any = {"model": "", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
NUM_CONNECTIONS = 1000
NUM_STREAMS = 500
MAX_STREAM_BYTES = 200_000
"""Of memory, for a stream that is held, both ends of its connection included."""
MAX_GROWTH_BYTES = 200 << 20
MAX_POOL_THREADS = (os.cpu_count() or 1) + 4
"""Of asyncio's pool, which reads requests; it fills once."""


@pytest.fixture(autouse=True, scope="module")
def many_files() -> Iterator[None]:
    """Both ends of each connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * NUM_CONNECTIONS + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} open files; the system allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def nothing_left(served: Served, max_bytes: int = MAX_GROWTH_BYTES) -> Iterator[None]:
    """Holds what the process has afterwards against what it had before."""
    assert exchange(served.server.port, post("/v1/messages", BODY))[0] == 200
    process = psutil.Process()
    num_files, num_threads = process.num_fds(), threading.active_count()
    num_bytes = process.memory_info().rss
    yield
    assert served.engine.wait_for(lambda: served.engine.running == [], 20.0)
    assert served.engine.wait_for(lambda: process.num_fds() <= num_files, 20.0)
    assert threading.active_count() <= num_threads + MAX_POOL_THREADS
    assert process.memory_info().rss - num_bytes < max_bytes
    assert exchange(served.server.port, post("/v1/messages", BODY))[0] == 200


def connect(served: Served, content: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", served.server.port), timeout=30)
    client.sendall(content)
    return client


def test_a_thousand_connections_at_once_are_answered(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0))
    request = head("GET", "/health/live")

    async def ask_all() -> list[bytes]:
        pairs = await asyncio.gather(
            *(
                asyncio.open_connection("127.0.0.1", served.server.port)
                for _ in range(NUM_CONNECTIONS)
            )
        )
        for _, writer in pairs:
            writer.write(request)
        answers = await asyncio.gather(*(reader.readuntil(b"\r\n") for reader, _ in pairs))
        for _, writer in pairs:
            writer.close()
        return answers

    with nothing_left(served):
        answers = asyncio.run(asyncio.wait_for(ask_all(), 60))
        assert answers == [b"HTTP/1.1 200 OK\r\n"] * NUM_CONNECTIONS


def test_five_hundred_idle_streams_are_held_at_a_small_price(serve: Serve) -> None:
    served = serve(Script(queue_s=120.0), ApiSettings(port=0))
    request = post("/v1/messages", BODY | {"stream": True})
    process = psutil.Process()
    served.engine.script = Script()
    with nothing_left(served):
        served.engine.script = Script(queue_s=120.0)
        before = process.memory_info().rss
        with contextlib.ExitStack() as streams:
            for _ in range(NUM_STREAMS):
                streams.enter_context(connect(served, request))
            engine = served.engine
            assert engine.wait_for(lambda: len(engine.running) == NUM_STREAMS, 60.0)
            assert (process.memory_info().rss - before) / NUM_STREAMS < MAX_STREAM_BYTES
            assert process.num_threads() < 100
            started = time.monotonic()
            for _ in range(20):
                assert exchange(served.server.port, head("GET", "/health/live"))[0] == 200
            assert time.monotonic() - started < 5.0
        served.engine.script = Script()


def test_bodies_that_never_arrive_are_cut_off_together(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, body_timeout_s=1.0))
    declared = f"content-length: {32 << 20}"
    request = head("POST", "/v1/messages", "content-type: application/json", declared)
    with nothing_left(served):
        clients = [connect(served, request + b"{" * 1000) for _ in range(300)]
        assert {read_reply(client)[0] for client in clients} == {408}
        for client in clients:
            client.close()
    assert len(served.engine.requests) == 2, "none of them became a turn"


def test_clients_that_do_not_read_hold_up_nobody(serve: Serve) -> None:
    """What they do not take stays in their turns, which end with them."""
    served = serve(None, ApiSettings(port=0))
    request = post("/v1/messages", BODY | {"stream": True, "max_tokens": 10_000})
    with nothing_left(served):
        served.engine.script = Script(words=("word " * 200,) * 2000)
        clients = [connect(served, request) for _ in range(20)]
        assert served.engine.wait_for(lambda: len(served.engine.requests) == 21, 20.0)
        served.engine.script = Script()
        started = time.monotonic()
        for _ in range(5):
            assert exchange(served.server.port, post("/v1/messages", BODY))[0] == 200
        assert time.monotonic() - started < 10.0
        for client in clients:
            client.close()
