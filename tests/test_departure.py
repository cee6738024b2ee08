"""Ends that nobody asked for by key: a signal, and a terminal that is closed."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from pathlib import Path

import pytest

from app.terminal import TerminalFile
from benchmarks.servers import await_ready, free_port
from benchmarks.terminal import Terminal

STARTER = ("sh", "-c", 'trap : HUP; "$@"; exit $?', "sh")
"""A program that starts another one and leaves it to look after itself."""


@pytest.fixture
def home(tmp_path: Path, bundled_models_dir: Path) -> Path:
    (tmp_path / "models").symlink_to(bundled_models_dir)
    return tmp_path


def running(home: Path, *before: str) -> Terminal:
    port = free_port()
    command = [*before, sys.executable, "-m", "app.cli", "--port", str(port)]
    terminal = Terminal(command, {"STOKER_HOME": str(home)})
    await_ready(port)
    terminal.wait_for("is ready", 30)
    return terminal


def test_a_signal_leaves_the_terminal_as_it_was(home: Path) -> None:
    terminal = running(home)
    assert terminal.ask_to_end(signal.SIGTERM) == 0
    time.sleep(0.2)
    # The alternate screen was left and the cursor is visible again.
    assert b"\x1b[?1049l" in terminal.output
    assert b"\x1b[?25h" in terminal.output


@pytest.mark.parametrize("starter", [(), STARTER])
def test_a_closed_terminal_ends_it(home: Path, starter: tuple[str, ...]) -> None:
    # Only the first program on a terminal is told by a signal that it is closed.
    terminal = running(home, *starter)
    assert terminal.hang_up() in (0, -signal.SIGHUP)


def test_a_closed_terminal_ends_the_demo() -> None:
    terminal = Terminal([*STARTER, sys.executable, "-m", "app.cli", "demo"], {})
    terminal.wait_for("agents", 30)
    assert terminal.hang_up() in (0, -signal.SIGHUP)


def test_drawing_on_a_closed_terminal_goes_nowhere() -> None:
    ours, theirs = pty.openpty()
    drawing = TerminalFile(theirs, "w")
    assert drawing.write(b"seen") == 4
    os.close(ours)
    assert drawing.write(memoryview(b"unseen")) == 6
    drawing.close()
