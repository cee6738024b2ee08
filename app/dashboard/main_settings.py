"""What the main screen is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path

from app.dashboard.action import LIVE, Power
from app.dashboard.habits import Habits, HabitsFile
from app.dashboard.source import Source
from app.paths import find_paths
from app.recording.replay import Replay
from styles.tokens import UNICODE, Glyphs
from widgets.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class MainSettings:
    """What the main screen needs besides the engine.

    Attributes:
        address: Host and port of the API, as shown.
        clock: Seconds, rising; decides when a chart sample is due.
        history: Chart samples so far.
        glyphs: Marks to draw with.
        zone: Of the times shown; None is the machine's own.
        screenshot_folder: Where screenshots go.
        exports_folder: Where agents' files go and come from.
        base_url: Where clients reach the API.
        source: Tells of an engine that is not in this process; None for one that is.
        replay: The engine, where it is a recording.
        powers: What the dashboard can do; the other actions are not offered.
        habits: How the person left the dashboard.
        habits_file: Where that is remembered.
    """

    address: str
    clock: Callable[[], float]
    history: History = field(default_factory=History)
    glyphs: Glyphs = UNICODE
    zone: tzinfo | None = None
    screenshot_folder: Path = field(default_factory=Path.cwd)
    exports_folder: Path = field(default_factory=lambda: find_paths().exports_dir)
    base_url: str
    source: Source | None = None
    replay: Replay | None = None
    powers: frozenset[Power] = LIVE
    habits: Habits = field(default_factory=Habits)
    habits_file: HabitsFile = field(default_factory=lambda: HabitsFile(None))

    @property
    def is_readonly(self) -> bool:
        """Whether an engine is followed that cannot be changed from here."""
        return Power.FOLLOW in self.powers and Power.CHANGE not in self.powers
