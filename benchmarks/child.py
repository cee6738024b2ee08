"""A side of a benchmark in a process of its own: a question a line in, an answer a line out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Child:
    """A module of this folder that runs ``answer_questions``."""

    def __init__(self, module: str, *arguments: str | Path) -> None:
        """Starts it and waits until it is ready.

        Args:
            module: Its name in ``benchmarks``.
            arguments: Its command line.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._answer()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Has it measure something.

        Raises:
            RuntimeError: It ended instead.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def answer_questions(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Says that this process is ready, then answers until its input ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
