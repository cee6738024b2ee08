"""A real server under load that is stopped, continued and ended; storms of clients that leave."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.api.raw_http import post
from tests.real_server import RealServer, real_server

TEXT = "Tell me a long story about a lighthouse and its keeper. " * 20
TURN: dict[str, Any] = {"max_tokens": 80, "messages": [{"role": "user", "content": TEXT}]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, bundled_models_dir: Path) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(bundled_models_dir)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RealServer]:
    with real_server(home, LOG_LEVEL="info") as server:
        yield server


def port_of(server: RealServer) -> int:
    return server.http.base_url.port or 0


def is_idle(state: dict[str, Any]) -> bool:
    batch = state["batch"]
    return not batch["num_running"] and not batch["num_waiting"]


def resources(server: RealServer) -> tuple[int, int]:
    """Threads and open files."""
    process = psutil.Process(server.process.pid)
    return process.num_threads(), process.num_fds()


def num_held_blocks(state: dict[str, Any]) -> int:
    """Blocks that an agent or a turn holds."""
    pool = state["pool"]
    held: int = pool["num_total_blocks"] - pool["num_free_blocks"] - pool["num_cached_blocks"]
    return held


class Stream(threading.Thread):
    """A client that reads a stream to its end, whatever that is."""

    def __init__(self, server: RealServer, agent: str) -> None:
        super().__init__(daemon=True)
        self._server, self._agent = server, agent
        self.text = ""
        self.status = 0
        self.start()

    def run(self) -> None:
        body = TURN | {"stream": True}
        headers = {"x-agent-id": self._agent}
        with self._server.http.stream("POST", "/v1/messages", json=body, headers=headers) as reply:
            self.status = reply.status_code
            for piece in reply.iter_text():
                self.text += piece

    def await_text(self, length: int) -> None:
        deadline_s = time.monotonic() + 60
        while self.text.count("content_block_delta") < length:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    @property
    def last_event(self) -> dict[str, Any]:
        data = self.text.strip().split("\n\n")[-1].split("data: ")[1]
        event: dict[str, Any] = json.loads(data)
        return event


def test_a_process_that_is_stopped_goes_on_where_it_was(server: RealServer) -> None:
    stream = Stream(server, "stopped")
    stream.await_text(5)
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(2.0)
    seen = stream.text
    time.sleep(0.5)
    assert stream.text == seen
    server.process.send_signal(signal.SIGCONT)
    stream.join(120)
    assert stream.last_event == {"type": "message_stop"}
    assert server.ask("stopped", "Is all well?").is_success


def test_a_storm_of_clients_that_leave_leaves_nothing_behind(server: RealServer) -> None:
    """Two hundred turns of ten agents; each client goes at another moment of its turn."""
    for agent in range(10):
        server.ask(f"storm-{agent}", TEXT, max_tokens=2)
    server.await_state(is_idle)
    before = resources(server)

    def ask_and_leave(number: int) -> None:
        # From before the request is whole to well into the reply.
        request = post("/v1/messages", TURN | {"stream": True}, f"x-agent-id: storm-{number % 10}")
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=30) as client:
            client.sendall(request if number % 7 else request[: number * len(request) // 200])
            client.settimeout((number % 5) * 0.15 + 0.001)
            try:
                client.recv(4096)
            except TimeoutError:
                return

    with ThreadPoolExecutor(max_workers=40) as clients:
        list(clients.map(ask_and_leave, range(200)))
    server.await_state(is_idle)
    reply = server.ask("storm-0", TEXT, max_tokens=2)
    assert reply.is_success
    server.await_state(is_idle)
    assert_nothing_left(server, "storm-", before)


def assert_nothing_left(server: RealServer, prefix: str, before: tuple[int, int]) -> None:
    """Of ten agents whose names begin so: no block, turn, thread or file."""
    after = resources(server)
    # The API's own pool of threads fills up once, to a bound.
    assert after[0] - before[0] <= 40
    assert after[1] - before[1] <= 10
    agents = [row for row in server.state()["agents"] if row["agent_id"].startswith(prefix)]
    assert len(agents) == 10
    for row in agents:
        server.http.delete(f"/v1/agents/{row['agent_id']}").raise_for_status()
    server.http.post("/admin/evict-idle").raise_for_status()
    server.await_state(lambda state: num_held_blocks(state) == 0)


@pytest.mark.slow
def test_a_burst_is_served_or_told_to_come_again_and_leaves_nothing(
    server: RealServer,
) -> None:
    """Two hundred turns of ten agents at once, by clients of both dialects."""
    server.await_state(is_idle)
    before = resources(server)

    def ask(number: int) -> tuple[str, int, str]:
        path = ("/v1/messages", "/v1/chat/completions")[number % 2]
        connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=240)
        headers = {"content-type": "application/json", "x-agent-id": f"burst-{number % 10}"}
        body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), headers)
            reply = connection.getresponse()
            reply.read()
            return path, reply.status, reply.headers.get("retry-after", "")

    with ThreadPoolExecutor(max_workers=200) as clients:
        replies = list(clients.map(ask, range(200)))
    for path, overloaded in (("/v1/messages", 529), ("/v1/chat/completions", 429)):
        statuses = {status for each, status, _ in replies if each == path}
        assert statuses <= {200, overloaded, 503}
        assert 200 in statuses
    for _, status, retry_after in replies:
        assert status == 200 or 1 <= int(retry_after) <= 120
    server.await_state(is_idle)
    assert_nothing_left(server, "burst-", before)


def test_a_signal_under_load_ends_every_stream_with_a_word(server: RealServer, home: Path) -> None:
    streams = [Stream(server, f"load-{number}") for number in range(4)]
    for stream in streams:
        stream.await_text(2)
    began_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    for stream in streams:
        stream.join(60)
        last = stream.last_event
        assert last["type"] in ("error", "message_stop")
        if last["type"] == "error":
            assert "shutting down" in last["error"]["message"]
    assert server.process.wait(60) == 0
    assert time.monotonic() - began_s < 60
    with real_server(home) as again:
        reply = again.ask("load-0", TEXT, max_tokens=2).json()
        assert reply["usage"]["cache_read_input_tokens"] >= 256
