"""What a reply is allowed to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Constraint:
    """A grammar that every prefix of a reply has to fit.

    Attributes:
        grammar: The grammar as text, in the language of llguidance.
    """

    grammar: str
