from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import threading
import time

import httpx
import pytest

from app.api.errors import BindError, PortInUseError
from app.api.server import ApiServer
from app.api.settings import ApiSettings
from engine.commands import Generate
from engine.request import Delta
from tests.api.conftest import Serve
from tests.api.word_engine import WordEngine


def test_a_taken_port_is_one_clear_line(serve: Serve) -> None:
    first = serve()
    second = ApiServer(WordEngine(), ApiSettings(port=first.server.port))
    with pytest.raises(PortInUseError) as caught:
        second.start()
    port = first.server.port
    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 is in use; choose another with --port N"
    )
    second.stop()
    assert second.join(1.0)
    assert first.http.get("/health/live").status_code == 200


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70_000)])
def test_an_impossible_address_is_one_clear_line(host: str, port: int) -> None:
    with pytest.raises(BindError, match="cannot listen on"):
        ApiServer(WordEngine(), ApiSettings(host=host, port=port)).bind()


def test_a_port_is_free_again_after_a_stop(serve: Serve) -> None:
    first = serve()
    assert first.http.get("/").status_code == 200
    first.server.stop()
    assert first.server.join(5.0)
    again = serve(None, ApiSettings(port=first.server.port))
    assert again.http.get("/").status_code == 200


def test_early_clients_wait_instead_of_being_refused() -> None:
    engine = WordEngine()
    server = ApiServer(engine, ApiSettings(port=0))
    server.bind()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        server.start()
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    server.stop()
    assert server.join(5.0)


def test_a_stop_before_the_start_is_done_is_a_stop() -> None:
    server = ApiServer(WordEngine(), ApiSettings(port=0))
    server.start()
    server.stop()
    assert server.join(10.0)
    assert server.failure is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)


def test_the_thread_has_its_name_and_ends(serve: Serve) -> None:
    served = serve()
    assert "stoker-api" in [thread.name for thread in threading.enumerate()]
    served.server.stop()
    served.server.stop()
    assert served.server.join(5.0)


def test_an_engine_that_talks_on_after_the_stop_is_not_disturbed(serve: Serve) -> None:
    served = serve()
    body = {"model": "", "messages": [{"role": "user", "content": "hi"}]}
    assert served.http.post("/v1/messages", json=body).is_success
    served.server.stop()
    assert served.server.join(5.0)
    (command,) = [c for c in served.engine.commands if isinstance(c, Generate)]
    command.sink(Delta(request_id=command.request.request_id, agent_id="late", text="late"))


def test_small_replies_are_not_held_back_by_the_network_stack(serve: Serve) -> None:
    served = serve()
    times: list[float] = []
    for _ in range(30):
        start = time.perf_counter()
        assert served.http.get("/health/live").is_success
        times.append(time.perf_counter() - start)
    assert statistics.median(times) < 0.03  # a delayed acknowledgement takes 0.04


def test_importing_the_server_imports_no_web_framework() -> None:
    code = (
        "import sys, app.api.server, app.api.settings, app.logs;"
        "bad = {'fastapi', 'starlette', 'uvicorn', 'pydantic', 'prometheus_client', 'mlx'};"
        "sys.exit(str(bad & set(sys.modules)) if bad & set(sys.modules) else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
