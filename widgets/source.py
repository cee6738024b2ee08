"""Where the picture comes from, when it is not from an engine in the same process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSlice:
    """What the screen says of its source; nothing for an engine in the same process.

    Attributes:
        label: What it is, in a word or two.
        is_recorded: Whether it is a recording, whose address is only a file's name.
        is_held: Whether it stands still because a person wanted it to.
        stale_s: Whole seconds for which nothing was heard of it; 0 while it is heard.
        problem: What a person must do something about.
        notice: Something to say once.
    """

    label: str = ""
    is_recorded: bool = False
    is_held: bool = False
    stale_s: int = 0
    problem: str = ""
    notice: str = ""
