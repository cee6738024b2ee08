"""What a dashboard remembers of how a person likes it, in a small file."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.dashboard.pane_layout import PaneLayout

MAX_BYTES = 64_000
log = logging.getLogger("stoker.dashboard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a person left the dashboard.

    Attributes:
        theme: Name of the theme; empty where none was chosen.
        sort_by: Order of the agents; empty where none was chosen.
        span_s: Seconds that the charts go back; 0 where none was chosen.
        colour_by: What the block map is coloured by; empty where nothing was chosen.
        layout: Which panes there are, and how large.
    """

    theme: str = ""
    sort_by: str = ""
    span_s: int = 0
    colour_by: str = ""
    layout: PaneLayout = field(default_factory=PaneLayout)


def _read(value: dict[str, Any]) -> Habits:
    theme, sort_by, span_s = value.get("theme"), value.get("sort_by"), value.get("span_s")
    colour_by = value.get("colour_by")
    return Habits(
        theme=theme if isinstance(theme, str) else "",
        sort_by=sort_by if isinstance(sort_by, str) else "",
        span_s=span_s if type(span_s) is int else 0,
        colour_by=colour_by if isinstance(colour_by, str) else "",
        layout=PaneLayout.from_json(value.get("layout")),
    )


class HabitsFile:
    """Where habits are kept. A file that cannot be read or written costs them, and nothing else.

    Args:
        path: The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> Habits:
        """What was last saved; what of it makes no sense is as if it never was."""
        if self._path is None:
            return Habits()
        try:
            with self._path.open("rb") as file:
                value = json.loads(file.read(MAX_BYTES))
        except FileNotFoundError:
            return Habits()
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s is not used: %s", self._path, error)
            return Habits()
        return _read(value) if isinstance(value, dict) else Habits()

    def save(self, habits: Habits) -> None:
        """Replaces what was saved."""
        if self._path is None:
            return
        value = {
            "theme": habits.theme,
            "sort_by": habits.sort_by,
            "span_s": habits.span_s,
            "colour_by": habits.colour_by,
            "layout": habits.layout.as_json(),
        }
        # Another dashboard may save at the same time.
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
            draft.replace(self._path)
        except OSError as error:
            log.warning("%s is not written: %s", self._path, error)
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
