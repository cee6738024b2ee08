"""Which events are brought to a person who looks elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.snapshot import EngineEvent
from widgets.format import shorten

PERSON_KINDS = ("disk", "quarantine", "record")
"""Kinds of warnings that only a person can do something about."""
TOLD_OTHERWISE = "swap"
"""How a change of model ended is told where it ends."""
MAX_AT_ONCE = 3
TEXT_CELLS = 200


def needs_person(event: EngineEvent) -> bool:
    """Whether somebody should do something about it."""
    if event.kind == TOLD_OTHERWISE:
        return False
    return event.level == "error" or (event.level == "warning" and event.kind in PERSON_KINDS)


class Notices:
    """Tells each event once, and none that was there before anybody looked."""

    def __init__(self) -> None:
        self._newest: int | None = None

    def take(self, events: Sequence[EngineEvent]) -> list[tuple[str, bool]]:
        """What is to be told now: a line each, and whether it is an error.

        Args:
            events: Those that there are, oldest first.
        """
        newest = events[-1].number if events else 0
        before, self._newest = self._newest, newest
        if before is None or newest < before:  # the first look, or another process
            return []
        new = [event for event in events if event.number > before and needs_person(event)]
        told = [(_words(event), event.level == "error") for event in new[-MAX_AT_ONCE:]]
        num_left = len(new) - len(told)
        return [*told, (f"and {num_left} more: see the events", True)] if num_left else told


def _words(event: EngineEvent) -> str:
    return f"{event.kind}: {shorten(event.text, TEXT_CELLS)}"
