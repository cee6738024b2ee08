"""Work that only saves later work: where the device finds no memory for it, it is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from engine.errors import OutOfMemoryError

Result = TypeVar("Result")

Note = Callable[[str, str, str], None]
"""Takes an event: kind, text and level."""


class SpareWork:
    """Does what the engine can do without. Belongs to the engine's thread.

    Restoring a cache, cutting it into blocks and copying blocks for the disk save computing. None
    of them is worth a turn, let alone the engine.
    """

    def __init__(self, give_back: Callable[[], None], note: Note) -> None:
        """Wires the parts.

        Args:
            give_back: Lets go of memory that nobody needs at once.
            note: Takes events.
        """
        self._give_back = give_back
        self._note = note

    def attempt(self, words: str, work: Callable[[], Result]) -> Result | None:
        """Does something, a second time once memory was given back, or leaves it out.

        Args:
            words: What it is, in words that follow "no memory to".
            work: Does it; when it fails, nothing has changed.

        Returns:
            What came of it; None where there was no memory for it.
        """
        try:
            return work()
        except OutOfMemoryError:
            self._give_back()
        try:
            return work()
        except OutOfMemoryError as error:
            self._note("memory", f"no memory to {words} ({error})", "warning")
            return None
