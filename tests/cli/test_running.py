"""The commands that run an engine, as a person at a terminal meets them."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "app.cli"]


@pytest.fixture
def ready_home(stoker_home: Path, bundled_models_dir: Path) -> Path:
    """A data folder in which the bundled model is converted already."""
    (stoker_home / "models").symlink_to(bundled_models_dir)
    return stoker_home


def read_all(terminal: int, limit_s: float) -> bytes:
    """What was written to a terminal until its last user closed it."""
    written = b""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            written += os.read(terminal, 65536)
        except OSError:  # Linux's way of saying that nobody is at the other end any more
            break
    return written


@pytest.mark.usefixtures("ready_home")
def test_generate_answers_with_paris() -> None:
    question = "What is the capital of France?"
    run = subprocess.run(
        [*COMMAND, "generate", question, "--max-tokens", "16", "--json"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )

    answer = json.loads(run.stdout)
    assert "Paris" in answer["text"]
    assert answer["model"] == "SmolLM2-135M-Instruct"
    assert run.stderr == ""


@pytest.mark.usefixtures("ready_home")
def test_generate_stops_at_a_stop_string_without_showing_it() -> None:
    run = subprocess.run(
        [*COMMAND, "generate", "What is the capital of France?", "--stop", " Par"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )

    assert run.stdout == "The capital of France is\n"


def test_model_that_does_not_load_is_one_line_and_exit_2(
    tmp_path: Path, bundled_model_dir: Path
) -> None:
    """The process ends right after the engine's thread, which must not abort it."""
    for file in bundled_model_dir.iterdir():
        (tmp_path / file.name).symlink_to(file)
    # Nothing that a glance at the folder tells.
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.json").write_text("{}")
    run = subprocess.run(
        [*COMMAND, "generate", "hi", "--model", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "tokenizer.json" in run.stderr


def test_a_folder_that_is_no_model_is_one_line_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    run = subprocess.run(
        [*COMMAND, "generate", "hi", "--model", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "model_type" in run.stderr


@pytest.mark.usefixtures("ready_home")
def test_serve_says_where_and_ends_cleanly_on_a_signal() -> None:
    server = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url = next((line.split()[-1] for line in server.stdout if " serving " in line), "")
    with urllib.request.urlopen(f"{url}/health/ready", timeout=30) as reply:
        assert reply.status == 200

    server.send_signal(signal.SIGTERM)
    _, errors = server.communicate(timeout=60)

    assert server.returncode == 0
    assert errors == ""


@pytest.mark.usefixtures("ready_home")
def test_an_engine_that_fails_ends_serve_with_2_and_says_why() -> None:
    broken = (
        "import sys; from app.cli import main; from engine.runtime.runner import ModelRunner\n"
        "ModelRunner.decode = lambda self, rows: 1 / 0\n"
        "sys.exit(main(['serve', '--port', '0']))"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", broken], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = next((line.split()[-1] for line in server.stdout if " serving " in line), "")
    body = json.dumps({"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]})
    request = urllib.request.Request(
        f"{url}/v1/messages", body.encode(), {"content-type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=30)
    _, errors = server.communicate(timeout=60)

    assert refusal.value.code == 500
    assert b"ZeroDivisionError" in refusal.value.read()
    assert server.returncode == 2
    assert errors.count("\n") == 1
    assert "stoker: the engine failed: ZeroDivisionError" in errors


def test_serve_on_a_taken_port_is_one_line_and_exit_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run(
            [*COMMAND, "serve", "--port", port], capture_output=True, text=True, timeout=60
        )

    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert f"port {port}" in run.stderr


def test_dashboard_on_a_taken_port_leaves_the_terminal_clean() -> None:
    outer, inner = pty.openpty()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = subprocess.Popen(
            [*COMMAND, "--port", port], stdin=inner, stdout=inner, stderr=inner
        )
        os.close(inner)
        written = read_all(outer, 60)
        assert process.wait(60) == 1
    os.close(outer)

    assert b"\x1b" not in written
    assert written.count(b"\n") == 1
    assert f"port {port}".encode() in written
