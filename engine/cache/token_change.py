"""The place where a prompt stopped being what its agent's earlier context was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChange:
    """The tokens around a change.

    Attributes:
        lead: The last tokens that are equal.
        was: Those that followed before; empty where only their hashes are left.
        now: Those that follow now.
    """

    lead: tuple[int, ...]
    was: tuple[int, ...]
    now: tuple[int, ...]
