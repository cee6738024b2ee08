"""The Textual application: wires the engine, the main screen and the way out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import App
from textual.binding import Binding
from textual.message import Message
from textual.worker import get_current_worker

from app.dashboard.action import LIVE, Power
from app.dashboard.actions import offered
from app.dashboard.departure import WATCH_S, is_hung_up, leave_on_signals
from app.dashboard.habits import HabitsFile
from app.dashboard.main_settings import MainSettings
from app.dashboard.screens.help import HelpScreen
from app.dashboard.screens.main import MainScreen
from app.dashboard.screens.system_keys import HELP
from app.dashboard.source import Source
from app.paths import find_paths
from app.recording.replay import Replay
from engine.commands import Shutdown
from engine.face import EngineFace
from styles import FOLDER
from styles.themes import DARK, THEMES
from styles.tokens import ASCII, UNICODE
from widgets.history import History

DRAIN_S = 5.0
JOIN_SLICE_S = 0.1
WIDTHS: list[tuple[int, str]] | None = [(0, "-compact"), (100, "-medium"), (160, "-wide")]
HEIGHTS: list[tuple[int, str]] | None = [(0, "-short"), (32, "-tall")]


class EngineStopped(Message):
    """The engine's thread has ended."""


class StokerApp(App[bool]):
    """The dashboard. ``run`` returns True when the engine had drained before it ended.

    Args:
        engine: What is shown; started after the first paint.
        address: Host and port of the API, as shown.
        plain_glyphs: Draw with ASCII marks only.
        clock: Seconds, rising; decides when a chart sample is due.
        history: Chart samples so far.
        zone: Of the times shown; None is the machine's own.
        screenshot_folder: Where screenshots go; None is the current folder.
        start: Starts the engine, and what goes with it, after the first paint; None starts the
            engine alone.
        theme: Name of the theme it opens in, Stoker's own or one of Textual's; None opens in the
            one that was last chosen.
        exports_folder: Where agents' files go and come from; None is the data folder's own.
        base_url: Where clients reach the API; None is that address in plain HTTP.
        source: Tells of an engine that is not in this process, and that goes on when this ends;
            None for one that is.
        replay: The engine, where it is a recording.
        powers: What the dashboard can do; the other actions are not offered.
        habits_path: Where the dashboard remembers how it was left; None remembers nothing.
        is_at_terminal: Whether it is drawn on a real terminal, and leaves in good order with it.
    """

    TITLE = "Stoker"
    ENABLE_COMMAND_PALETTE = False
    COMMANDS: ClassVar = set()
    CSS_PATH: ClassVar = [FOLDER / "base.tcss", FOLDER / "main.tcss", FOLDER / "modals.tcss"]
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar = [
        Binding("ctrl+c", "interrupt", "Copy or quit", show=False, priority=True),
        Binding("ctrl+q", "leave", "Quit", show=False, priority=True),
    ]

    def __init__(
        self,
        engine: EngineFace,
        *,
        address: str,
        plain_glyphs: bool = False,
        clock: Callable[[], float] = time.monotonic,
        history: History | None = None,
        zone: tzinfo | None = None,
        screenshot_folder: Path | None = None,
        start: Callable[[], None] | None = None,
        theme: str | None = None,
        exports_folder: Path | None = None,
        base_url: str | None = None,
        source: Source | None = None,
        replay: Replay | None = None,
        powers: frozenset[Power] = LIVE,
        habits_path: Path | None = None,
        is_at_terminal: bool = False,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._start = start or engine.start
        self._is_leaving = False
        self._is_guest = source is not None or replay is not None
        self._is_at_terminal = is_at_terminal
        habits_file = HabitsFile(habits_path)
        habits = habits_file.load()
        self._settings = MainSettings(
            address=address,
            clock=clock,
            history=history or History(),
            glyphs=ASCII if plain_glyphs else UNICODE,
            zone=zone,
            screenshot_folder=screenshot_folder or Path.cwd(),
            exports_folder=exports_folder or find_paths().exports_dir,
            base_url=base_url or f"http://{address}",
            source=source or replay,
            replay=replay,
            powers=powers,
            habits=habits,
            habits_file=habits_file,
        )
        self.set_class(plain_glyphs, "-plain", update=False)
        for own_theme in THEMES:
            self.register_theme(own_theme)
        wanted = theme or habits.theme
        self.theme = wanted if wanted in self.available_themes else DARK.name
        self.install_screen(HelpScreen(offered(powers), self._settings.glyphs), HELP)

    def get_default_screen(self) -> MainScreen:
        """The main screen is there from the first paint on."""
        return MainScreen(self._engine, self._settings)

    def on_mount(self) -> None:
        """Starts the engine once the first screen is painted."""
        if self._is_at_terminal:
            self._leave_with_terminal()
        self.call_after_refresh(self._start)

    def on_quit_requested(self) -> None:
        """Leaves, from the main screen's key or palette."""
        self.action_leave()

    def action_interrupt(self) -> None:
        """Copies what is selected with the mouse; leaves when nothing is."""
        selected = self.screen.get_selected_text()
        if selected:
            self.copy_to_clipboard(selected)
            self.screen.clear_selection()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Drains, then exits; a second time exits at once, and so does a guest."""
        if self._is_leaving or self._is_guest:
            self._engine.send(Shutdown(drain_s=0.0))
            self.exit(False)
            return
        self._is_leaving = True
        self._engine.send(Shutdown(drain_s=DRAIN_S))
        self.notify("draining: running turns may finish; q again leaves now", timeout=DRAIN_S)
        self._await_engine()

    def _leave_with_terminal(self) -> None:
        """Leaves in good order when a signal asks for it, or when the terminal is closed."""
        leave_on_signals(self.action_leave)
        if sys.stdin.isatty():
            self.set_interval(WATCH_S, self._look_at_terminal)

    def _look_at_terminal(self) -> None:
        if is_hung_up(sys.stdin.fileno()) and not self._is_leaving:
            self.action_leave()

    def on_engine_stopped(self) -> None:
        """The engine is done: so is the dashboard."""
        self.exit(True)

    @work(thread=True)
    def _await_engine(self) -> None:
        worker = get_current_worker()
        while not worker.is_cancelled:
            if self._engine.join(JOIN_SLICE_S):
                self.post_message(EngineStopped())
                return
