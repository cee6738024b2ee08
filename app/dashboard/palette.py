"""The command palette: the action registry, searchable."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from app.dashboard.action import DashboardAction

if TYPE_CHECKING:
    from app.dashboard.screens.main import MainScreen


class DashboardCommands(Provider):
    """Every action that the main screen offers, but the palette itself."""

    @property
    def _actions(self) -> list[DashboardAction]:
        screen = cast("MainScreen", self.screen)
        return [action for action in screen.offered if action.name != "palette"]

    async def discover(self) -> Hits:
        """All actions, in the registry's order."""
        for action in self._actions:
            yield DiscoveryHit(
                f"{action.title}  ({action.key_label})",
                partial(self.screen.run_action, action.name),
                help=action.help,
            )

    async def search(self, query: str) -> Hits:
        """Actions whose title matches."""
        matcher = self.matcher(query)
        for action in self._actions:
            score = matcher.match(action.title)
            if score > 0:
                yield Hit(
                    score,
                    matcher.highlight(action.title),
                    partial(self.screen.run_action, action.name),
                    help=action.help,
                )
