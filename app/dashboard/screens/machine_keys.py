"""What keys and the palette show of this machine: checks, capacity, settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from app.config import ConfigError, Settings, load_settings
from app.dashboard.screens.system_keys import SystemKeys
from app.paths import find_paths
from styles.tokens import UNICODE, Glyphs

if TYPE_CHECKING:
    from app.capacity import Candidate
    from app.doctor import Finding
    from engine.snapshot import EngineSnapshot


class MachineKeys(SystemKeys):
    """A screen that can show what there is to know of this machine.

    What the pages need is imported when one is opened: the first paint does not wait for it.
    """

    _own_settings: Settings | None = None
    """What the engine of this process was told; None where there is none."""
    _marks: Glyphs = UNICODE

    def action_doctor(self) -> None:
        """Checks this machine."""
        from app.dashboard.screens.doctor import DoctorScreen
        from app.doctor_run import DoctorRun

        settings = self._own_settings
        self.app.push_screen(
            DoctorScreen(lambda: DoctorRun(settings), self._known_findings(), self._marks)
        )

    def action_capacity(self) -> None:
        """Asks what would fit."""
        from app.capacity import active_candidate, measured_memory
        from app.dashboard.screens.capacity import CapacityScreen

        shown = self._engine.snapshot
        active = active_candidate(shown)
        if active is None:
            self._say("no model is loaded yet")
            return
        self.app.push_screen(
            CapacityScreen(active, measured_memory(shown), self._finder(shown), self._marks)
        )

    def action_settings(self) -> None:
        """Shows every setting and where it came from."""
        from app.config_show import folder_rows, setting_rows
        from app.dashboard.screens.settings import SettingsScreen

        try:
            settings = self._own_settings or load_settings({})
        except ConfigError as error:
            self._say(str(error), is_bad=True)
            return
        rows, folders = setting_rows(settings), folder_rows(find_paths())
        self.app.push_screen(SettingsScreen(rows, folders, self._marks))

    def _finder(self, shown: EngineSnapshot) -> Callable[[], Sequence[Candidate]]:
        """Looks for other models, where the engine could load one."""
        if self._own_settings is None:
            return lambda: ()

        def find() -> Sequence[Candidate]:
            from app.local_models import local_candidates

            return local_candidates(shown, find_paths().models_dir)

        return find

    def _known_findings(self) -> tuple[Finding, ...]:
        """What another process would take for a fault, or cannot see."""
        from app.doctor import Finding, Health, terminal_finding

        size = self.app.size
        name = os.environ.get("TERM", "unnamed")
        terminal = terminal_finding(name, size.width, size.height)
        if self._own_settings is None:
            return (terminal,)
        return (terminal, Finding("port", Health.OK, "this Stoker listens on it"))
