"""Keeps everything but the dashboard off the terminal while the dashboard is drawn."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from app.config import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Buffer

OUTPUT_LOG = "output.log"
"""What libraries wrote to the terminal while the dashboard was drawn."""

_STDOUT, _STDERR = 1, 2


def require_terminal() -> None:
    """Refuses to draw where nobody would see it.

    Raises:
        ConfigError: Standard input, output or error is not a terminal.
    """
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise ConfigError(
            "the dashboard needs a terminal; to serve without one, run `stoker serve`"
        )


def has_plain_glyphs() -> bool:
    """Whether the terminal's encoding has ASCII marks only."""
    return "utf" not in (sys.stdout.encoding or "").lower()


class TerminalFile(io.FileIO):
    """A terminal that may be closed under us: what is drawn from then on goes nowhere.

    An error would end Textual's writing thread, and the dashboard would wait for it for good.
    """

    def write(self, data: Buffer, /) -> int:
        """Draws; says that all was drawn where there is nothing left to draw on."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(memoryview(data).cast("B"))


@contextlib.contextmanager
def captured_output(log_path: Path) -> Iterator[None]:
    """Sends what anybody writes to standard output or error, native libraries too, to a file.

    Textual draws on ``sys.__stderr__`` and measures the terminal at ``sys.__stdout__``; inside,
    both are files of their own on the terminal, so the numbers 1 and 2 can point at the log.

    Args:
        log_path: Appended to; made readable by its owner only.

    Raises:
        OSError: The file cannot be written.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    saved = (os.dup(_STDOUT), os.dup(_STDERR))
    terminal = io.TextIOWrapper(
        io.BufferedWriter(TerminalFile(os.dup(_STDERR), "w")), encoding="utf-8", errors="replace"
    )
    originals = (sys.__stdout__, sys.__stderr__)
    try:
        os.dup2(log, _STDOUT)
        os.dup2(log, _STDERR)
        sys.__stdout__ = sys.__stderr__ = terminal  # type: ignore[misc]
        yield
    finally:
        sys.__stdout__, sys.__stderr__ = originals  # type: ignore[misc]
        terminal.close()
        for number, descriptor in zip((_STDOUT, _STDERR), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(log)
