"""``stoker attach`` as a person types it: what it says instead of drawing, and how it ends."""

from __future__ import annotations

import contextlib
import http.server
import os
import pty
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from app.api.settings import ApiSettings
from app.api_keys import ApiKey
from app.attach import run_attached
from app.cli import main
from benchmarks.terminal import Terminal
from engine.errors import InvalidRequestError, StokerError
from tests.api.conftest import serving
from tests.cli.test_cli import stoker
from tests.cli.test_running import read_all

ATTACH = [sys.executable, "-m", "app.cli", "attach"]


def refusal(url: str, key: str | None = None) -> str:
    """What is said of an address before anything is drawn; it is the user's to put right."""
    with pytest.raises(StokerError) as caught:
        run_attached(url, key, theme=None, plain_glyphs=False, is_readonly=False, record=None)
    assert isinstance(caught.value, InvalidRequestError)
    return str(caught.value)


@contextlib.contextmanager
def answering(content: bytes, status: int = 200) -> Iterator[str]:
    """A web server of somebody else's, on a real socket."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def talking(first_words: bytes) -> Iterator[int]:
    """A server that is none of the web's: it says something and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(first_words)
                        connection.recv(4096)

        threading.Thread(target=talk, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("url", ["ftp://here", "http://", "http://127.0.0.1:port", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    assert "is no address; it is like http://127.0.0.1:8000" in refusal(url)


def test_an_address_with_a_password_in_it() -> None:
    assert "give --key KEY" in refusal("http://me:secret@127.0.0.1:1")


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    words = refusal(f"127.0.0.1:{port}")
    assert f"no Stoker answers at http://127.0.0.1:{port} (Connection refused)" in words
    assert "start one with `stoker`" in words


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<html>", 200),
        (b"{}", 200),
        (b'{"step": []}', 200),
        (b"not here", 404),
        (b"[" * 10**5, 200),
    ],
)
def test_somebody_else_answers(content: bytes, status: int) -> None:
    with answering(content, status) as url:
        assert refusal(url) == f"what answers at {url} is no Stoker"


def test_something_that_is_not_of_the_web_answers() -> None:
    with talking(b"220 mail.example ESMTP\r\n") as port:
        assert f"what answers at http://127.0.0.1:{port} is no Stoker" in refusal(
            f"http://127.0.0.1:{port}"
        )


def test_tls_where_there_is_none() -> None:
    with talking(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        words = refusal(f"https://127.0.0.1:{port}")
    assert f"does not speak TLS; try http://127.0.0.1:{port}" in words


def test_a_certificate_that_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise error

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
    with talking(b"") as port:
        words = refusal(f"https://127.0.0.1:{port}")
    assert words.endswith("is not trusted: self-signed certificate")


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_key_that_is_missing_or_wrong(key: str | None) -> None:
    with serving(None, ApiSettings(port=0, api_key="right")) as served:
        assert "give --key KEY, or set STOKER_API_KEY" in refusal(served.url, key)


def test_a_key_that_is_not_the_operators() -> None:
    keys = (ApiKey("alice", "hers"),)
    with serving(None, ApiSettings(port=0, api_key="right", api_keys=keys)) as served:
        assert "takes the operator's key" in refusal(served.url, "hers")


def test_without_a_terminal_it_says_so() -> None:
    run = stoker("attach")
    assert run.returncode == 1
    assert "needs a terminal" in run.stderr


@pytest.mark.parametrize("command", ["doctor", "demo", "serve"])
def test_a_flag_before_a_command_that_has_no_use_for_it(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(["--readonly", command]) == 1
    assert capsys.readouterr().err == ("stoker: --readonly goes with `stoker` or `stoker attach`\n")


def test_the_terminal_is_left_as_it_was_when_there_is_nothing_to_show() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    outer, inner = pty.openpty()
    process = subprocess.Popen([*ATTACH, url], stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    written = read_all(outer, 60)
    os.close(outer)
    assert process.wait(60) == 1
    assert b"\x1b" not in written
    assert written.count(b"\n") == 1


@pytest.mark.parametrize("end", ["key", "signal"])
def test_it_ends_in_good_order_and_the_server_goes_on(end: str) -> None:
    with serving() as served:
        terminal = Terminal([*ATTACH, served.url, "--readonly"], {})
        terminal.wait_for("session/sub", 30)
        if end == "key":
            assert terminal.close("q") == 0
        else:
            assert terminal.ask_to_end(signal.SIGTERM) == 0
        time.sleep(0.2)
        assert b"\x1b[?1049l" in terminal.output
        assert b"\x1b[?25h" in terminal.output
        assert served.http.get("/health/live").status_code == 200
        assert served.engine.commands == []
