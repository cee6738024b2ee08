"""What there is to see beside the plain main screen: the rows of the matrix of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input

from app.dashboard.actions import PANE_KEYS
from app.dashboard.app import StokerApp
from app.dashboard.screenshots import demo_app, still_app

SIZES = {"small": (80, 24), "medium": (120, 40), "large": (200, 60)}
SETTLE_S = 0.3
REVIEW_BOT = ("down",) * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One thing to look at.

    Attributes:
        name: Of its pictures.
        keys: That lead to it.
        scene: A still scene; empty for the demo's world, with charts.
    """

    name: str
    keys: tuple[str, ...] = ()
    scene: str = "busy"

    def app(self) -> StokerApp:
        """The dashboard, not yet running."""
        app, _ = still_app(self.scene) if self.scene else demo_app()
        return app

    async def reach(self, pilot: Pilot[Any]) -> None:
        """Presses the keys and waits until nothing moves any more."""
        for key in self.keys:
            await pilot.press(key)
            await pilot.pause()
        await settled(pilot)


async def settled(pilot: Pilot[Any]) -> None:
    """Waits until nothing moves any more."""
    await pilot.pause(SETTLE_S)
    for line in pilot.app.screen.query(Input):
        line.cursor_blink = False
    await pilot.pause()


def _panes_alone() -> Iterator[View]:
    for scene in ("empty", "loading", "failed", "overloaded", "hostile"):
        for key, pane in PANE_KEYS:
            yield View(name=f"{scene}-{pane}", keys=(key,), scene=scene)


STATES = tuple(
    View(name=scene, scene=scene)
    for scene in ("loading", "failed", "hostile", "many_blocks", "disk_off", "swapping")
)
QUESTIONS = (
    View(name="evict-idle", keys=("E",)),
    View(name="abort", keys=("x",)),
    View(name="remove", keys=(*REVIEW_BOT, "D")),
    View(name="hostile-evict", keys=("down", "e"), scene="hostile"),
    View(name="hostile-remove", keys=("down",) * 8 + ("D",), scene="hostile"),
)
CHOICES = (
    View(name="themes", keys=("t",)),
    View(name="layouts", keys=("L",)),
    View(name="batch-window", keys=("W",)),
    View(name="fork-at-a-turn", keys=(*REVIEW_BOT, "F")),
    View(name="palette", keys=("colon",)),
    View(name="palette-search", keys=("colon", *"evict")),
)
LOOKS = (
    View(name="no-agent-to-abort", keys=(*REVIEW_BOT, "p", "Y", "down", "x")),
    View(name="block-under-cursor", keys=("2", "tab", "right", "right"), scene=""),
    View(name="filter-finds-nobody", keys=("slash", *"zzz")),
    View(name="by-context", keys=("s", "s", "s"), scene=""),
    View(name="display-paused", keys=("space",), scene=""),
    View(name="charts-of-ten-minutes", keys=("c",), scene=""),
    View(name="pane-hidden", keys=("tab", "H"), scene=""),
    View(name="pane-to-bring-back", keys=("tab", "H", "L"), scene=""),
    View(name="blocks-by-agent", keys=("b",), scene=""),
    View(name="events-with-errors", keys=("5", "v"), scene="overloaded"),
)
PAGES = (
    View(name="hostile-detail", keys=("enter",), scene="hostile"),
    View(name="hostile-jump", keys=("J",), scene="hostile"),
    View(name="overloaded-detail", keys=("enter",), scene="overloaded"),
    View(name="overloaded-capacity", keys=("C",), scene="overloaded"),
    View(name="help-below", keys=("question_mark", "pagedown", "pagedown")),
    View(name="reply-shown", keys=("enter", "v")),
)
PANES = tuple(_panes_alone())
VIEWS = (*QUESTIONS, *CHOICES, *LOOKS, *PAGES)
