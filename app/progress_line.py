"""One line on a terminal's standard error that says how far something is."""

from __future__ import annotations

import sys

from app.logs import printable


class ProgressLine:
    """Writes over itself; says nothing where standard error is no terminal."""

    def __init__(self) -> None:
        """Has said nothing yet."""
        self._is_shown = sys.stderr.isatty()

    def __call__(self, share: float, text: str) -> None:
        """Says how far it is.

        Args:
            share: What is done, 0-1.
            text: What is being done.
        """
        self._write(f"{share:4.0%} {text}")

    def end(self) -> None:
        """Takes the line off the terminal."""
        self._write("")

    def _write(self, text: str) -> None:
        if self._is_shown:
            sys.stderr.write(f"\r\x1b[K{printable(text)}")
            sys.stderr.flush()
