"""How a model marks what it thinks before it answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """Reasoning is text between two marks, at the beginning of a reply.

    Attributes:
        open_mark: Stands before it.
        close_mark: Stands behind it.
        is_opened: Whether the prompt ends with the opening mark already, so that a reply begins in
            the midst of it.
    """

    open_mark: str
    close_mark: str
    is_opened: bool = False


_MARKS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))


def reasoning_format_of(template_source: str, reply_opening: str = "") -> ReasoningFormat | None:
    """How a chat template marks reasoning.

    Args:
        template_source: Its Jinja source.
        reply_opening: What it writes at the end of a prompt.

    Returns:
        The format; None where the template knows of no reasoning.
    """
    for open_mark, close_mark in _MARKS:
        if close_mark in template_source:
            is_opened = reply_opening.rstrip().endswith(open_mark)
            return ReasoningFormat(open_mark, close_mark, is_opened)
    return None
