"""The command palette: the action registry, searchable."""

from __future__ import annotations

from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from app.dashboard.actions import ACTIONS


class DashboardCommands(Provider):
    """Every registered action but the palette itself."""

    async def discover(self) -> Hits:
        """All actions, in the registry's order."""
        for action in ACTIONS:
            if action.name != "palette":
                yield DiscoveryHit(
                    f"{action.title}  ({action.key_label})",
                    partial(self.screen.run_action, action.name),
                    help=action.help,
                )

    async def search(self, query: str) -> Hits:
        """Actions whose title matches."""
        matcher = self.matcher(query)
        for action in ACTIONS:
            score = matcher.match(action.title)
            if score > 0 and action.name != "palette":
                yield Hit(
                    score,
                    matcher.highlight(action.title),
                    partial(self.screen.run_action, action.name),
                    help=action.help,
                )
