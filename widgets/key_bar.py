"""The footer: keys that work here, most useful first; each can be clicked."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.style import Style
from textual.widget import Widget


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHint:
    """One entry.

    Attributes:
        key: As printed on the keyboard.
        label: What it does, in a word or two.
        action: What a click runs, e.g. ``app.evict``.
        rank: Lower ones are kept when space is short.
    """

    key: str
    label: str
    action: str
    rank: int


class KeyBar(Widget):
    """One line of hints. Those that do not fit are left out, highest rank first.

    Args:
        hints: In the order in which they are shown.
    """

    auto_links = False
    hints: reactive[tuple[KeyHint, ...]] = reactive(())

    def __init__(self, hints: tuple[KeyHint, ...]) -> None:
        super().__init__(id="key-bar")
        self.set_reactive(KeyBar.hints, hints)

    def render(self) -> Content:
        """The hints that fit."""
        width = self.content_size.width
        parts: list[Content] = []
        for hint in self.fitting(width):
            click = Style.from_meta({"@click": hint.action})
            entry = Content.assemble(
                (hint.key, "bold $footer-key-foreground"),
                (f" {hint.label}", "$foreground 65%"),
            )
            parts.append(entry.stylize(click))
        return Content("  ").join(parts)

    def fitting(self, width: int) -> list[KeyHint]:
        """The hints that fit ``width`` cells, in order of display."""
        kept: list[KeyHint] = []
        used = 0
        for hint in sorted(self.hints, key=lambda hint: hint.rank):
            cells = len(hint.key) + 1 + len(hint.label) + 2
            if used + cells - 2 > width:
                break
            used += cells
            kept.append(hint)
        return [hint for hint in self.hints if hint in kept]
