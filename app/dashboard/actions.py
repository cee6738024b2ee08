"""Every action of the dashboard, once: keys, footer, palette, help and docs come from here.

An action named ``evict`` is the method ``action_evict`` of the main screen.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.binding import Binding, BindingType

from app.dashboard.action import DashboardAction, Power
from app.dashboard.agent_actions import AGENT_ACTIONS
from app.dashboard.key_words import spelled
from app.dashboard.replay_actions import REPLAY_ACTIONS
from app.dashboard.system_actions import SYSTEM_ACTIONS
from app.dashboard.view_actions import VIEW_ACTIONS
from styles.tokens import Glyphs
from widgets.key_bar import KeyHint

ACTIONS: tuple[DashboardAction, ...] = (
    *REPLAY_ACTIONS,
    *AGENT_ACTIONS,
    *VIEW_ACTIONS,
    *SYSTEM_ACTIONS,
)

PANE_KEYS: tuple[tuple[str, str], ...] = (
    ("1", "agents"),
    ("2", "blocks"),
    ("3", "throughput"),
    ("4", "batch"),
    ("5", "events"),
    ("6", "model"),
)
"""Keys that give one pane the whole screen, also where it is otherwise hidden."""


MOVES: tuple[BindingType, ...] = (
    Binding("l", "app.focus_next", "Next pane", show=False),
    Binding("h", "app.focus_previous", "Previous pane", show=False),
    Binding("escape", "restore", "Back", show=False),
)


def offered(powers: frozenset[Power]) -> tuple[DashboardAction, ...]:
    """The actions of a dashboard that can do so much."""
    return tuple(each for each in ACTIONS if each.needs is None or each.needs in powers)


def bindings() -> list[BindingType]:
    """Key bindings of the main screen, for every action; it refuses those it does not offer."""
    own = [
        Binding(action.keys, action.name, action.label, show=False, key_display=action.key_label)
        for action in ACTIONS
    ]
    panes = [
        Binding(key, f"show_pane('{pane}')", f"show {pane}", show=False) for key, pane in PANE_KEYS
    ]
    return [*own, *panes, *MOVES]


def key_hints(actions: Sequence[DashboardAction], glyphs: Glyphs) -> tuple[KeyHint, ...]:
    """Footer entries of actions.

    Args:
        actions: What is offered.
        glyphs: Marks; where they are ASCII, so are the keys.
    """
    return tuple(
        KeyHint(
            key=spelled(action.key_label, glyphs),
            label=action.label,
            action=f"screen.{action.name}",
            rank=action.rank,
        )
        for action in actions
        if action.rank is not None
    )
