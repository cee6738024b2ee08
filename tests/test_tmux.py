"""A real terminal: the demo as a person sees it in tmux, and what it leaves behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
LIMIT_S = 60.0
CLEAN = "alternate=0 cursor=1 keypad=0 mouse=0"
MODES = (
    "alternate=#{alternate_on} cursor=#{cursor_flag} keypad=#{keypad_flag} mouse=#{mouse_any_flag}"
)


class Tmux:
    """One terminal with a shell in it."""

    def __init__(self) -> None:
        self._name = f"stoker-{uuid.uuid4().hex[:8]}"
        self._run("new-session", "-d", "env", "PS1=$ ", "sh")

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-L", self._name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @property
    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    @property
    def modes(self) -> str:
        return self._run("display-message", "-p", MODES).strip()

    def type(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def until(self, holds: Callable[[str], bool]) -> None:
        deadline_s = time.monotonic() + LIMIT_S
        while not holds(self.screen):
            assert time.monotonic() < deadline_s, self.screen
            time.sleep(0.1)

    def program(self) -> psutil.Process:
        shell = psutil.Process(int(self._run("display-message", "-p", "#{pane_pid}")))
        return next(p for p in shell.children(recursive=True) if "demo" in p.cmdline())

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture
def tmux() -> Iterator[Tmux]:
    terminal = Tmux()
    yield terminal
    terminal.close()


@pytest.mark.parametrize("way", ["q", "SIGTERM"])
def test_the_demo_is_used_by_keys_and_leaves_the_terminal_as_it_was(
    tmux: Tmux, way: str, tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    demo = f"{sys.executable} -m app.cli demo"
    tmux.type(f"stty -g > {before}; {demo}; echo left $?; stty -g > {after}", "Enter")
    tmux.until(lambda screen: "sort:" in screen and "claude repo-a" in screen)
    assert tmux.modes != CLEAN
    tmux.type("?")
    tmux.until(lambda screen: "Keys, marks and colours" in screen)
    tmux.type("Escape")
    tmux.until(lambda screen: "Keys, marks and colours" not in screen)
    if way == "q":
        tmux.type("q")
    else:
        tmux.program().terminate()
    tmux.until(lambda screen: "left 0" in screen and after.exists() and bool(after.read_text()))
    assert tmux.modes == CLEAN
    assert before.read_text() == after.read_text()
    assert "sort:" not in tmux.screen
