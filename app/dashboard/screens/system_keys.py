"""What keys and the palette do to the engine as a whole, and to Stoker."""

from __future__ import annotations

from pathlib import Path

from textual.command import CommandPalette
from textual.message import Message

from app.dashboard.board import max_context_tokens
from app.dashboard.main_settings import MainSettings
from app.dashboard.saved_snapshot import write_snapshot
from app.dashboard.screens.view_keys import ViewKeys
from engine.snapshot import EngineSnapshot
from widgets.welcome import claude_code_line

HELP = "help"
"""Name under which the help screen is installed."""
BATCH_WINDOWS_MS = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0)


class QuitRequested(Message):
    """A person wants to leave."""


class SystemKeys(ViewKeys):
    """A screen from which the engine is set, and things are copied and saved."""

    _settings: MainSettings

    def action_batch_window(self) -> None:
        """Lets a batch window be chosen."""
        now_ms = self._shown.batch.window_ms
        windows = sorted({*BATCH_WINDOWS_MS, now_ms})
        lines = [
            f"{window:>5g} ms{'   now' if window == now_ms else ''}"
            f"{'   waits for nobody' if not window else ''}"
            for window in windows
        ]
        self._choose(
            "How long does an idle engine wait for company?",
            lines,
            lambda index: self._dispatch.set_batch_window(windows[index]),
            windows.index(now_ms),
        )

    def action_copy_line(self) -> None:
        """Copies what connects Claude Code to this engine."""
        line = claude_code_line(self._settings.base_url, max_context_tokens(self._shown))
        self.app.copy_to_clipboard(line)
        self._say("copied; paste it in another terminal")

    def action_screenshot(self) -> None:
        """Saves the screen as SVG."""
        try:
            path = self.app.save_screenshot(path=str(self._settings.screenshot_folder))
        except OSError as error:
            self._say(f"cannot save a screenshot: {error}", is_bad=True)
        else:
            self._say(f"saved {path}")

    def action_save_snapshot(self) -> None:
        """Saves the engine's state as JSON, away from the screen's own thread."""
        snapshot, folder = self._shown, self._settings.screenshot_folder
        self.run_worker(lambda: self._save(snapshot, folder), thread=True, group="snapshot")

    def _save(self, snapshot: EngineSnapshot, folder: Path) -> None:
        try:
            path = write_snapshot(snapshot, folder)
        except OSError as error:
            text = f"cannot save a snapshot: {error}"
            self.app.call_from_thread(self._say, text, is_bad=True)
        else:
            self.app.call_from_thread(self._say, f"saved {path}")

    def action_palette(self) -> None:
        """Opens the command palette."""
        self.app.push_screen(CommandPalette(placeholder="what to do"))

    def action_help(self) -> None:
        """Explains keys, marks and colours."""
        self.app.push_screen(HELP)

    def action_quit(self) -> None:
        """Asks the app to leave."""
        self.app.post_message(QuitRequested())
