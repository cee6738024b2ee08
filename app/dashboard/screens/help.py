"""Help: every key from the action registry, every mark and colour from the tokens."""

from __future__ import annotations

from itertools import groupby
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from app.dashboard.actions import ACTIONS, PANE_KEYS
from engine.snapshot import AgentStatus, BlockState
from styles.tokens import (
    AGENT_ROLE,
    BLOCK_ORDER,
    BLOCK_ROLE,
    BRAND,
    BRIGHT,
    MUTED,
    PLAIN,
    Glyphs,
)
from widgets.bars import Part

KEY_CELLS = 7

AGENT_MEANING: tuple[tuple[AgentStatus, str], ...] = (
    (AgentStatus.DECODING, "decoding: generating tokens now"),
    (AgentStatus.PREFILLING, "prefilling: reading its prompt, with time left"),
    (AgentStatus.QUEUED, "queued: waits for room in the batch"),
    (AgentStatus.IDLE, "idle: its cache is in memory, ready"),
    (AgentStatus.COLD, "no cache: the next turn recomputes"),
)

BLOCK_MEANING: dict[BlockState, str] = {
    BlockState.RUNNING: "held by a turn in progress",
    BlockState.SHARED: "held by more than one agent, stored once",
    BlockState.PINNED: "held by a pinned agent",
    BlockState.HOT: "held by an idle agent",
    BlockState.CACHED: "held by nobody, reusable, first to go",
    BlockState.FREE: "free",
}

COLUMN_MEANING: tuple[tuple[str, str], ...] = (
    ("context", "tokens of the agent's context, of the model's limit"),
    ("hot", "bytes of its cache in memory"),
    ("shared", "share of those that other agents hold too"),
    ("hit", "share of the last prompt that came from the cache"),
    ("ttft", "time to the first token of the last turn"),
    ("last miss", "why prompt tokens had to be recomputed"),
)


class HelpScreen(ModalScreen[None]):
    """Keys at the left, the language of the screen at the right.

    Args:
        glyphs: Marks to explain.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "dismiss", "Close", show=False),
        Binding("j,down", "scroll(2)", "Down", show=False),
        Binding("k,up", "scroll(-2)", "Up", show=False),
    ]

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        """Two columns in one scrolling box."""
        with VerticalScroll(classes="help") as box:
            box.border_title = "help"
            box.border_subtitle = "escape closes"
            with Horizontal(classes="columns"):
                yield Static(self._keys(), classes="column")
                yield Static(self._language(), classes="column")

    def action_scroll(self, lines: int) -> None:
        """Scrolls the box."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def _keys(self) -> Content:
        lines: list[list[Part]] = []
        for group, actions in groupby(ACTIONS, key=lambda action: action.group):
            lines += [[(group, f"bold {BRAND}")]]
            lines += [_entry(action.key_label, action.help) for action in actions]
            lines += [[]]
        lines += [[("Moving", f"bold {BRAND}")]]
        lines += [
            _entry("↑ ↓", "Select an agent; also k and j, page keys, g and G, the mouse."),
            _entry("tab", "Focus the next pane."),
            _entry(
                f"{PANE_KEYS[0][0]}-{PANE_KEYS[-1][0]}",
                "Show one pane alone: " + ", ".join(pane for _, pane in PANE_KEYS) + ".",
            ),
            _entry("esc", "Back."),
        ]
        return _joined(lines)

    def _language(self) -> Content:
        glyphs = self._glyphs
        lines: list[list[Part]] = [[("Agents", f"bold {BRAND}")]]
        for status, meaning in AGENT_MEANING:
            lines.append([(f" {glyphs.agent[status]}  ", AGENT_ROLE[status]), (meaning, PLAIN)])
        lines.append([(f" {glyphs.pinned}  ", BRAND), ("pinned: never evicted", PLAIN)])
        lines += [[], [("Columns", f"bold {BRAND}")]]
        lines += [[(f" {name:<10}", BRIGHT), (meaning, PLAIN)] for name, meaning in COLUMN_MEANING]
        lines += [[], [("Blocks", f"bold {BRAND}")]]
        for state in BLOCK_ORDER:
            if state in BLOCK_MEANING:
                mark = (f" {glyphs.block[state]}  ", BLOCK_ROLE[state])
                lines.append([mark, (BLOCK_MEANING[state], PLAIN)])
        lines += [
            [],
            [("A block is one run of tokens of KV cache over", MUTED)],
            [("all layers. Agents with the same beginning", MUTED)],
            [("share the blocks of that beginning.", MUTED)],
        ]
        return _joined(lines)


def _entry(key: str, text: str) -> list[Part]:
    return [(f" {key:<{KEY_CELLS}}", f"bold {BRIGHT}"), (text, PLAIN)]


def _joined(lines: list[list[Part]]) -> Content:
    return Content("\n").join([Content.assemble(*line) for line in lines])
