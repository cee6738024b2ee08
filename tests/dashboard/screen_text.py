"""What a person reads on a screen, as plain text."""

from __future__ import annotations

from textual.app import App


def screen_lines(app: App[bool]) -> list[str]:
    """The lines of the topmost screen."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def screen_text(app: App[bool]) -> str:
    """The topmost screen as one text."""
    return "\n".join(screen_lines(app))


def toasts(app: App[bool]) -> list[str]:
    """The texts of the messages that popped up, oldest first."""
    return [toast.message for toast in app._notifications]
