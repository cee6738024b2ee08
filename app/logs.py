"""Logging: a rotating file and a ring for the log pane. Nothing ever reaches the terminal.

Prompts and replies are never logged above ``DEBUG``. Whatever a client sent is made harmless:
control characters come out as escapes, so that a line stays a line.

A record may carry fields (``extra={"fields": {...}}``): the JSON form has each under its name.
While a request is served its id is known (``bound_contextvars``), and goes with every record.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import EventDict

LOG_FILE_NAME = "stoker.log"
MAX_FILE_BYTES = 5 * 1024 * 1024
NUM_OLD_FILES = 3
RING_LINES = 1000
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_QUIET_LOGGERS = ("uvicorn.access", "httpx", "httpcore", "asyncio", "urllib3", "huggingface_hub")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log pane.

    Attributes:
        time: Wall-clock seconds since the epoch.
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        source: Name of the logger.
        text: The message, harmless to a screen.
    """

    time: float
    level: str
    source: str
    text: str


def printable(text: str) -> str:
    """Text whose control characters are replaced by escapes that show their code."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class LineFormatter(logging.Formatter):
    """Formats a record with its message on one line; only tracebacks have more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - stdlib's name
        """Formats the line, message made harmless."""
        record.message = printable(record.message)
        line = super().formatMessage(record)
        # Not before the first line: importing it takes a tenth of the time to the first paint.
        from structlog.contextvars import get_contextvars

        fields: Mapping[str, str] = getattr(record, "fields", {})
        request_id = fields.get("request_id") or get_contextvars().get("request_id", "")
        return line if request_id in line else f"{line} {request_id}"

    def format(self, record: logging.LogRecord) -> str:
        """Formats the record; the lines of a traceback are indented, so that none looks new."""
        first, *rest = super().format(record).splitlines()
        return "\n".join([first, *("    " + printable(line) for line in rest)])


def json_formatter() -> logging.Formatter:
    """Formats a record as one JSON object: time, level, logger, event, and its fields."""
    import structlog

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_add_origin, structlog.contextvars.merge_contextvars, _add_fields],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=repr),
        ],
    )


def _add_origin(_logger: object, _method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return {"time": time, "level": record.levelname.lower(), "logger": record.name, **event}


def _add_fields(_logger: object, _method: str, event: EventDict) -> EventDict:
    fields: Mapping[str, object] = getattr(event["_record"], "fields", {})
    return {**event, **fields}


class LogRing(logging.Handler):
    """Keeps the newest lines in memory. Any thread may write, any thread may read."""

    def __init__(self, num_lines: int = RING_LINES) -> None:
        """Makes an empty ring."""
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=num_lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Takes one record."""
        try:
            text = printable(record.getMessage())
            if record.exc_info and record.exc_info[1] is not None:
                text += f" ({printable(repr(record.exc_info[1]))})"
        except Exception:  # a faulty log call must not stop what it reports on
            self.handleError(record)
            return
        self._lines.append(LogLine(record.created, record.levelname.lower(), record.name, text))

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """The newest lines, oldest first."""
        self.acquire()
        try:
            return tuple(self._lines)
        finally:
            self.release()


class PrivateLogFile(RotatingFileHandler):
    """A rotating file that only its owner can read, after each rotation too."""

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename,
            "a",
            encoding=self.encoding,
            errors=self.errors,
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )


def set_up_logging(directory: Path, level: str = "info", form: str = "human") -> LogRing:
    """Sends all logging of the process to ``directory`` and to a ring.

    May be called again; the earlier handlers are closed.

    Args:
        directory: Folder for the log files; made if it is not there, readable by its owner only.
        level: Lowest level to keep.
        form: ``human`` or ``json``: how the lines of the file are written.

    Returns:
        The ring that the log pane reads.

    Raises:
        OSError: The folder or the file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = PrivateLogFile(
        directory / LOG_FILE_NAME,
        maxBytes=MAX_FILE_BYTES,
        backupCount=NUM_OLD_FILES,
        encoding="utf-8",
        errors="backslashreplace",
    )
    file.setFormatter(json_formatter() if form == "json" else LineFormatter(_FORMAT))
    ring = LogRing()
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.addHandler(file)
    root.addHandler(ring)
    root.setLevel(level.upper())
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # A full disk must not print tracebacks over the dashboard.
    logging.raiseExceptions = False
    return ring
