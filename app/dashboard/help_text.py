"""What the help says: keys from the action registry, marks and colours from the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from app.dashboard.action import DashboardAction
from app.dashboard.actions import PANE_KEYS
from app.dashboard.key_words import action_keys
from engine.snapshot import AgentStatus, BlockState
from styles.tokens import AGENT_ROLE, BLOCK_ORDER, BLOCK_ROLE, BRAND, BRIGHT, MUTED, PLAIN, Glyphs

AGENT_MEANING: tuple[tuple[AgentStatus, str], ...] = (
    (AgentStatus.DECODING, "decoding: generating tokens now"),
    (AgentStatus.PREFILLING, "prefilling: reading its prompt, with time left"),
    (AgentStatus.QUEUED, "queued: waits for room in the batch"),
    (AgentStatus.RESTORING, "restoring: its cache is being read from disk"),
    (AgentStatus.TOOL_WAIT, "tool-wait: it called tools; what they give comes next"),
    (AgentStatus.IDLE, "idle: its cache is in memory, ready"),
    (AgentStatus.WARM, "on disk: its cache is read back when it is needed"),
    (AgentStatus.COLD, "no cache: the next turn recomputes"),
)

BLOCK_MEANING: dict[BlockState, str] = {
    BlockState.RUNNING: "held by a turn in progress",
    BlockState.SHARED: "held by more than one agent, stored once",
    BlockState.PINNED: "held by a pinned agent",
    BlockState.HOT: "held by an idle agent",
    BlockState.DIRTY: "held by an idle agent, not yet written to disk",
    BlockState.CACHED: "held by nobody, reusable, first to go",
    BlockState.FREE: "free",
}

COLUMN_MEANING: tuple[tuple[str, str], ...] = (
    ("context", "tokens of the agent's context, of the model's limit"),
    ("hot", "bytes of its cache in memory"),
    ("warm", "bytes of its cache on disk"),
    ("shared", "share of the bytes in memory that other agents hold too"),
    ("hit", "share of the last prompt that came from the cache; marked if some was on disk"),
    ("ttft", "time to the first token of the last turn"),
    ("last miss", "which part of the prompt changed, or what became of the cache; tokens lost"),
)


BLOCK_STORY = (
    "A block is one run of tokens of KV cache over all layers. Agents whose prompts begin alike "
    "share the blocks of that beginning, so it is stored and computed once."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing explained.

    Attributes:
        text: The explanation.
        head: Key, mark or name in front of it; empty for a plain paragraph.
        role: Colour of the head.
        action: Name of the action that a click on it carries out; empty for none.
    """

    text: str
    head: str = ""
    role: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Entries under a heading; their heads share a column."""

    title: str
    entries: tuple[Entry, ...]


def key_sections(actions: Sequence[DashboardAction]) -> list[Section]:
    """Every key that works everywhere on the main screen.

    Args:
        actions: What is offered, in the registry's order.
    """
    panes = ", ".join(pane for _, pane in PANE_KEYS)
    groups = groupby(actions, key=lambda action: action.group)
    return [
        *(Section(group, tuple(_action(each) for each in members)) for group, members in groups),
        Section(
            "Moving",
            (
                _key("tab l", "Focus the next pane; where l means something else, tab does."),
                _key("shift+tab h", "Focus the pane before."),
                _key(f"{PANE_KEYS[0][0]}-{PANE_KEYS[-1][0]}", f"Show one pane alone: {panes}."),
                _key("esc", "Back."),
                _key("^c", "Copy what the mouse has marked; leave where nothing is."),
                _key("^q", "Leave."),
            ),
        ),
    ]


def place_sections() -> list[Section]:
    """Every key that works in one pane or on one screen alone."""
    # Some of these screens are imported for this alone, and the first paint does not wait for it.
    from app.dashboard.place_keys import PLACES

    return [
        Section(place.title, tuple(_key(key, words) for key, words in place.keys))
        for place in PLACES
    ]


def language_sections(glyphs: Glyphs) -> list[Section]:
    """Every mark, colour and column.

    Args:
        glyphs: Marks to explain.
    """
    agents = [
        Entry(head=glyphs.agent[status], role=AGENT_ROLE[status], text=meaning)
        for status, meaning in AGENT_MEANING
    ]
    blocks = [
        Entry(head=glyphs.block[state], role=BLOCK_ROLE[state], text=BLOCK_MEANING[state])
        for state in BLOCK_ORDER
        if state in BLOCK_MEANING
    ]
    marks = (
        Entry(head=glyphs.paused, role=MUTED, text="paused: its turns wait until you resume it"),
        Entry(head=glyphs.pinned, role=BRAND, text="pinned: never evicted"),
        Entry(head=glyphs.up, role=PLAIN, text="priority: its turns go ahead"),
        Entry(head=glyphs.down, role=PLAIN, text="priority: its turns wait longer"),
    )
    return [
        Section("Agents", (*agents, *marks)),
        Section("Columns", tuple(_key(name, meaning) for name, meaning in COLUMN_MEANING)),
        Section("Blocks", tuple(blocks)),
        Section("What a block is", (Entry(text=BLOCK_STORY),)),
    ]


def _action(action: DashboardAction) -> Entry:
    return replace(_key(action_keys(action), action.help), action=action.name)


def _key(key: str, text: str) -> Entry:
    return Entry(head=key, role=f"bold {BRIGHT}", text=text)
