"""Rare things that happened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEvent:
    """A rare thing that happened, with its reason and numbers.

    Attributes:
        number: Counts up from 1 over the life of the process.
        time: Wall-clock seconds since the epoch.
        kind: One word: load, evict, pin, miss, abort, reject, fallback, alias, error, ...
        text: One line for people.
        level: ``info``, ``warning`` or ``error``.
        request_id: The request it came with; empty where it came with none.
    """

    number: int
    time: float
    kind: str
    text: str
    level: str = "info"
    request_id: str = ""
