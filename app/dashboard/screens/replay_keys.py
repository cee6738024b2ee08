"""What keys and the palette do to a replay."""

from __future__ import annotations

from app.dashboard.screens.agent_keys import AgentKeys
from app.recording.replay import Replay

STEP_S = 10.0
FAR_S = 60.0


class ReplayKeys(AgentKeys):
    """A screen that may show a recording. Without one, these actions are not offered."""

    _replay: Replay | None = None

    def action_play(self) -> None:
        """Holds the replay, or lets it go on."""
        if self._replay is not None:
            self._replay.toggle()
            self.refresh_now()

    def action_back(self) -> None:
        """Goes back a little."""
        self._seek(-STEP_S)

    def action_forward(self) -> None:
        """Goes forward a little."""
        self._seek(STEP_S)

    def action_back_far(self) -> None:
        """Goes back a minute."""
        self._seek(-FAR_S)

    def action_forward_far(self) -> None:
        """Goes forward a minute."""
        self._seek(FAR_S)

    def action_faster(self) -> None:
        """Plays faster."""
        if self._replay is not None:
            self._replay.faster()
            self.refresh_now()

    def action_slower(self) -> None:
        """Plays slower."""
        if self._replay is not None:
            self._replay.slower()
            self.refresh_now()

    def refresh_now(self) -> None:
        """Draws the state at once."""
        raise NotImplementedError

    def _seek(self, step_s: float) -> None:
        if self._replay is not None:
            self._replay.seek(step_s)
            self.refresh_now()
