"""One thing a person can do at the dashboard, and what it takes to offer it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

AGENT = "Selected agent"
REPLAY = "Replay"
VIEW = "View"
SYSTEM = "Stoker"


class Power(Enum):
    """What a dashboard has to be able to do for an action to be offered."""

    CHANGE = "change"
    """Change agents and their caches."""
    EXPORT = "export"
    """Read an agent's cache."""
    FOLLOW = "follow"
    """Show an engine that goes on by itself."""
    PLAY = "play"
    """Move about in a recording."""


LIVE = frozenset({Power.CHANGE, Power.EXPORT, Power.FOLLOW})
READ_ONLY = LIVE - {Power.CHANGE}
RECORDED = frozenset({Power.PLAY})


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardAction:
    """One thing a person can do.

    Attributes:
        name: The main screen's ``action_<name>`` carries it out.
        keys: Textual key names, comma-separated.
        key_label: The first key as printed on the keyboard.
        label: A word or two, for the footer.
        title: For the command palette.
        help: One sentence, for palette and help.
        group: Heading in the help.
        rank: Place in the queue for the footer, 0 first; None keeps it out.
        needs: What the dashboard has to be able to do; None for what every one can.
    """

    name: str
    keys: str
    key_label: str
    label: str
    title: str
    help: str
    group: str
    rank: int | None = None
    needs: Power | None = None
