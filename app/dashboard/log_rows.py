"""The log's newest lines in the form of events, as the events pane lists them."""

from __future__ import annotations

from app.logs import LogLine, LogRing
from engine.snapshot import EngineEvent

LEVELS = {"warning": "warning", "error": "error", "critical": "error"}


class LogRows:
    """Lines of the ring as rows, made anew only where there are new ones."""

    def __init__(self, ring: LogRing) -> None:
        """Has looked at nothing yet.

        Args:
            ring: Keeps the lines.
        """
        self._ring = ring
        self._lines: tuple[LogLine, ...] = ()
        self._rows: tuple[EngineEvent, ...] = ()

    @property
    def rows(self) -> tuple[EngineEvent, ...]:
        """One row for each line that the ring has now, oldest first."""
        lines = self._ring.lines
        if lines[-1:] != self._lines[-1:]:
            self._lines = lines
            self._rows = tuple(_row(number, line) for number, line in enumerate(lines))
        return self._rows


def _row(number: int, line: LogLine) -> EngineEvent:
    return EngineEvent(
        number=number,
        time=line.time,
        kind=line.source.rpartition(".")[2],
        text=line.text,
        level=LEVELS.get(line.level, "info"),
    )
