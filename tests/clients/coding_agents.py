"""The real coding agents, started by ``stoker launch`` with an empty home and nothing but loopback.

``make test-clients`` installs them into an ignored folder from ``package.json``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ROOT / ".test-clients" / "node_modules" / ".bin"
LIMIT_S = 240
BRIEF = "You are brief."
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody runs: whatever is not on loopback ends there."""
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from app.cli import main; sys.exit(main())"
)


class Workplace:
    """An empty home and a project folder for one coding agent."""

    def __init__(self, folder: Path, url: str) -> None:
        """Makes both.

        Args:
            folder: An empty folder.
            url: Where Stoker listens.
        """
        self.home = folder / "home"
        self.project = folder / "project"
        self.home.mkdir()
        self.project.mkdir()
        self._url = url

    def launch(self, program: str, *arguments: str) -> str:
        """Runs an agent to its end.

        Returns:
            What it wrote to standard output.
        """
        if not (PROGRAMS / program).exists():
            pytest.fail(f"{program} is not in {PROGRAMS}: run `make test-clients`")
        own = ["launch", program, "--url", self._url, "--", *arguments]
        run = subprocess.run(
            [sys.executable, "-P", "-c", _START, str(ROOT), *own],
            cwd=self.project,
            env={
                "HOME": str(self.home),
                "PATH": f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin",
                "STOKER_HOME": str(self.home / "stoker"),
                "LANG": "C.UTF-8",
                "HTTP_PROXY": NOWHERE,
                "HTTPS_PROXY": NOWHERE,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
        return run.stdout


class CodingAgent(Protocol):
    """One conversation with a coding agent."""

    def ask(self, question: str) -> str:
        """A turn of the conversation.

        Returns:
            The agent's last words.
        """


class ClaudeCode:
    """Claude Code with its shortest instructions; its shell may run ``echo``."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._continue: tuple[str, ...] = ()

    def ask(self, question: str) -> str:
        small = ("--bare", "--disable-slash-commands", "--system-prompt", BRIEF)
        words = ("--output-format", "json", "--allowedTools", "Bash(echo:*)")
        said = self._place.launch("claude", *small, *words, *self._continue, "-p", question)
        self._continue = ("--continue",)
        result: dict[str, Any] = json.loads(said)
        assert not result["is_error"], result
        return str(result["result"])


class Codex:
    """Codex with instructions and tools cut down to what a small context holds."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._resume: tuple[str, ...] = ()
        (place.home / "brief.md").write_text(BRIEF)

    def ask(self, question: str) -> str:
        instructions = f"model_instructions_file={json.dumps(str(self._place.home / 'brief.md'))}"
        small = ("-c", instructions, "--disable", "multi_agent", "--disable", "goals")
        words = ("exec", "--strict-config", "--skip-git-repo-check", "--json")
        said = self._place.launch("codex", *small, *words, *self._resume, question)
        self._resume = ("resume", "--last")
        items = [row["item"] for row in _rows(said) if row["type"] == "item.completed"]
        return str([item["text"] for item in items if item["type"] == "agent_message"][-1])


class OpenCode:
    """opencode with instructions and tools cut down to what a small context holds."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._continue: tuple[str, ...] = ()
        agent = {"prompt": BRIEF, "tools": {"*": False, "bash": True}}
        (place.project / "opencode.json").write_text(json.dumps({"agent": {"build": agent}}))

    def ask(self, question: str) -> str:
        words = ("run", "--title", "a test", "--format", "json")
        said = self._place.launch("opencode", *words, *self._continue, question)
        self._continue = ("--continue",)
        rows = _rows(said)
        assert not [row for row in rows if row["type"] == "error"], said
        return str([row["part"]["text"] for row in rows if row["type"] == "text"][-1])


def _rows(said: str) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]
