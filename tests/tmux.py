"""A real terminal with a shell in it, in tmux: what is typed there, and what can be read."""

from __future__ import annotations

import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

LIMIT_S = 60.0
CLEAN = "alternate=0 cursor=1 keypad=0 mouse=0"
"""The modes of a terminal that nobody has changed."""
_MODES = (
    "alternate=#{alternate_on} cursor=#{cursor_flag} keypad=#{keypad_flag} mouse=#{mouse_any_flag}"
)


class Tmux:
    """One terminal of 120 columns and 40 lines."""

    def __init__(self, folder: Path) -> None:
        """Opens it.

        Args:
            folder: Takes what ``stty`` says before and after a program.
        """
        self._name = f"stoker-{uuid.uuid4().hex[:8]}"
        self._before, self._after = folder / "stty-before", folder / "stty-after"
        self._run("new-session", "-d", "-x", "120", "-y", "40", "env", "PS1=$ ", "sh")

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-L", self._name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @property
    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    @property
    def modes(self) -> str:
        return self._run("display-message", "-p", _MODES).strip()

    def type(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def until(self, holds: Callable[[str], bool]) -> None:
        """Waits until something can be read on the screen."""
        deadline_s = time.monotonic() + LIMIT_S
        while not holds(self.screen):
            assert time.monotonic() < deadline_s, self.screen
            time.sleep(0.1)

    def until_shows(self, *texts: str) -> None:
        self.until(lambda screen: all(text in screen for text in texts))

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Types a command; what the terminal is set to is kept, before and after it."""
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        words = shlex.join(["env", *variables, *command])
        line = f"clear; stty -g > {self._before}; {words}; echo left $?; stty -g > {self._after}"
        self.type("-l", line)
        self.type("Enter")

    def program(self) -> psutil.Process:
        """The program that was started."""
        shell = psutil.Process(int(self._run("display-message", "-p", "#{pane_pid}")))
        (program,) = shell.children()
        return program

    def assert_left(self, status: int) -> None:
        """Waits for the program's end, which left the terminal as it was."""
        self.until(
            lambda screen: (
                f"left {status}" in screen
                and self._after.exists()
                and bool(self._after.read_text())
            )
        )
        assert self.modes == CLEAN
        assert self._before.read_text() == self._after.read_text()
        assert "╭" not in self.screen

    def close(self) -> None:
        self._run("kill-server")
