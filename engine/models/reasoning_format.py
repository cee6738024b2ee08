"""How a model marks what it thinks before it answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """Reasoning is text between two marks, at the beginning of a reply.

    Attributes:
        open_mark: Stands before it.
        close_mark: Stands behind it.
    """

    open_mark: str
    close_mark: str


_FORMATS = (
    ReasoningFormat("<think>", "</think>"),
    ReasoningFormat("[THINK]", "[/THINK]"),
)


def reasoning_format_of(template_source: str) -> ReasoningFormat | None:
    """How a chat template marks reasoning; None where it knows of none."""
    return next((each for each in _FORMATS if each.close_mark in template_source), None)
