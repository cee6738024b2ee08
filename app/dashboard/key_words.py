"""Keys as they are printed on a keyboard."""

from __future__ import annotations

from collections.abc import Sequence

from app.dashboard.action import DashboardAction
from styles.tokens import ASCII, Glyphs

_WORDS = {
    "colon": ":",
    "comma": ",",
    "delete": "del",
    "down": "↓",
    "equals_sign": "=",
    "escape": "esc",
    "greater_than_sign": ">",
    "left": "←",
    "left_square_bracket": "[",
    "less_than_sign": "<",
    "minus": "-",
    "pagedown": "pgdn",
    "pageup": "pgup",
    "plus": "+",
    "question_mark": "?",
    "right": "→",
    "right_square_bracket": "]",
    "slash": "/",
    "up": "↑",
}


_ARROWS = "←→↑↓"


def key_word(key: str) -> str:
    """One key.

    Args:
        key: Its name in Textual.
    """
    *held, last = key.split("+")
    word = _WORDS.get(last, last)
    return f"^{word}" if held == ["ctrl"] else "+".join([*held, word])


def spelled(keys: str, glyphs: Glyphs) -> str:
    """Keys as text, in ASCII alone where the marks are."""
    if glyphs is not ASCII:
        return keys
    for arrow, name in zip(_ARROWS, ("left", "right", "up", "down"), strict=True):
        keys = keys.replace(arrow, name)
    return keys


def key_words(keys: Sequence[str]) -> str:
    """Several keys, beside each other; the four arrows are one word."""
    words = [key_word(key) for key in keys]
    if set(_ARROWS) <= set(words):
        words = ["arrows", *(word for word in words if word not in _ARROWS)]
    return " ".join(words)


def action_keys(action: DashboardAction) -> str:
    """Every key of an action, the one that the footer names first."""
    words = [key_word(key) for key in action.keys.split(",")]
    return " ".join([action.key_label, *(word for word in words if word != action.key_label)])
