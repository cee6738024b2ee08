"""Every action of the dashboard, once: keys, footer, command palette and help all come from here.

An action named ``evict`` is the method ``action_evict`` of the main screen.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.binding import Binding, BindingType

from app.dashboard.action import AGENT, SYSTEM, VIEW, DashboardAction, Power
from app.dashboard.replay_actions import REPLAY_ACTIONS
from widgets.key_bar import KeyHint

ACTIONS: tuple[DashboardAction, ...] = (
    *REPLAY_ACTIONS,
    DashboardAction(
        name="evict",
        keys="e",
        key_label="e",
        label="evict",
        title="Evict agent",
        help="Drop the selected agent's cache from memory; asks first and says what is lost.",
        group=AGENT,
        rank=0,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="warm",
        keys="w",
        key_label="w",
        label="warm",
        title="Warm agent",
        help="Bring the selected agent's cache back from disk, ahead of its next turn.",
        group=AGENT,
        rank=3,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="pin",
        keys="p",
        key_label="p",
        label="pin",
        title="Pin or unpin agent",
        help="Keep the selected agent's cache from eviction, or let it go again.",
        group=AGENT,
        rank=1,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="fork",
        keys="f",
        key_label="f",
        label="fork",
        title="Fork agent",
        help="Make a new agent that starts from the selected one's cache and shares its blocks.",
        group=AGENT,
        rank=5,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="fork_turn",
        keys="F",
        key_label="F",
        label="fork turn",
        title="Fork agent at a turn",
        help="Choose one of the selected agent's turns; the new agent goes on from its end.",
        group=AGENT,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="export",
        keys="o",
        key_label="o",
        label="export",
        title="Export agent",
        help="Write the selected agent and its cache into a file in the folder of exports.",
        group=AGENT,
        needs=Power.EXPORT,
    ),
    DashboardAction(
        name="import",
        keys="I",
        key_label="I",
        label="import",
        title="Import agent",
        help="Choose a file from the folder of exports and take its agent in.",
        group=AGENT,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="remove",
        keys="D,delete",
        key_label="D",
        label="remove",
        title="Remove agent",
        help="Forget the selected agent and its cache, on disk too; asks first.",
        group=AGENT,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="abort",
        keys="x",
        key_label="x",
        label="abort",
        title="Abort agent's turn",
        help="End the selected agent's running or waiting turn; asks first.",
        group=AGENT,
        rank=2,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="detail",
        keys="i",
        key_label="enter",
        label="detail",
        title="Agent detail",
        help="Explain the selected agent, its cache and its last turn; also i.",
        group=AGENT,
        rank=5,
    ),
    DashboardAction(
        name="evict_idle",
        keys="E",
        key_label="E",
        label="evict idle",
        title="Evict all idle agents",
        help="Drop the caches of all idle, unpinned agents from memory; asks first.",
        group=AGENT,
        rank=9,
        needs=Power.CHANGE,
    ),
    DashboardAction(
        name="filter",
        keys="slash",
        key_label="/",
        label="filter",
        title="Filter agents",
        help="Show only agents whose name or state contains what you type; escape clears.",
        group=VIEW,
        rank=4,
    ),
    DashboardAction(
        name="sort",
        keys="s",
        key_label="s",
        label="sort",
        title="Sort agents",
        help="Next sort order; a click on a heading sorts by that column.",
        group=VIEW,
        rank=6,
    ),
    DashboardAction(
        name="maximise",
        keys="z",
        key_label="z",
        label="maximise",
        title="Maximise pane",
        help="Give the focused pane the whole screen, or put it back.",
        group=VIEW,
        rank=7,
    ),
    DashboardAction(
        name="pause",
        keys="space",
        key_label="space",
        label="pause",
        title="Pause or resume the display",
        help="Freeze what is shown; the engine goes on.",
        group=VIEW,
        rank=8,
        needs=Power.FOLLOW,
    ),
    DashboardAction(
        name="colour_blocks",
        keys="b",
        key_label="b",
        label="block colours",
        title="Colour blocks by state or agent",
        help="Colour the block map by state or by the agent that holds each block.",
        group=VIEW,
        rank=11,
    ),
    DashboardAction(
        name="chart_span",
        keys="c",
        key_label="c",
        label="charts",
        title="Chart span",
        help="One chart column is 1, 10 or 60 seconds.",
        group=VIEW,
        rank=12,
    ),
    DashboardAction(
        name="theme",
        keys="t",
        key_label="t",
        label="theme",
        title="Change theme",
        help="Choose colours, dark or light.",
        group=VIEW,
        rank=13,
    ),
    DashboardAction(
        name="copy_line",
        keys="y",
        key_label="y",
        label="copy connect line",
        title="Copy the Claude Code line",
        help="Copy the line that connects Claude Code here to the clipboard.",
        group=SYSTEM,
        rank=14,
        needs=Power.FOLLOW,
    ),
    DashboardAction(
        name="capacity",
        keys="C",
        key_label="C",
        label="capacity",
        title="Capacity: what would fit",
        help="How many agents fit at another context, in another cache format, on another model.",
        group=SYSTEM,
    ),
    DashboardAction(
        name="doctor",
        keys="d",
        key_label="d",
        label="doctor",
        title="Doctor: check this machine",
        help="Check device, model, folders, memory and clients, and say what to do about them.",
        group=SYSTEM,
    ),
    DashboardAction(
        name="settings",
        keys="S",
        key_label="S",
        label="settings",
        title="Settings and where they came from",
        help="Every setting, its value, and the flag, variable or file that it came from.",
        group=SYSTEM,
    ),
    DashboardAction(
        name="screenshot",
        keys="ctrl+s",
        key_label="^s",
        label="screenshot",
        title="Save a screenshot",
        help="Save the screen as SVG in the folder that Stoker was started in.",
        group=SYSTEM,
    ),
    DashboardAction(
        name="palette",
        keys="colon,ctrl+p",
        key_label=":",
        label="palette",
        title="Command palette",
        help="Find any action by name.",
        group=SYSTEM,
        rank=10,
    ),
    DashboardAction(
        name="help",
        keys="question_mark,f1",
        key_label="?",
        label="help",
        title="Help",
        help="Keys, marks and colours.",
        group=SYSTEM,
        rank=3,
    ),
    DashboardAction(
        name="quit",
        keys="q",
        key_label="q",
        label="quit",
        title="Quit",
        help="Let running turns finish for a few seconds, then leave; twice leaves at once.",
        group=SYSTEM,
        rank=2,
    ),
)

PANE_KEYS: tuple[tuple[str, str], ...] = (
    ("1", "agents"),
    ("2", "blocks"),
    ("3", "throughput"),
    ("4", "batch"),
    ("5", "events"),
    ("6", "model"),
)
"""Keys that give one pane the whole screen, also where it is otherwise hidden."""


def offered(powers: frozenset[Power]) -> tuple[DashboardAction, ...]:
    """The actions of a dashboard that can do so much."""
    return tuple(each for each in ACTIONS if each.needs is None or each.needs in powers)


def bindings() -> list[BindingType]:
    """Key bindings of the main screen, for every action; it refuses those it does not offer."""
    own = [
        Binding(action.keys, action.name, action.label, show=False, key_display=action.key_label)
        for action in ACTIONS
    ]
    panes = [
        Binding(key, f"show_pane('{pane}')", f"show {pane}", show=False) for key, pane in PANE_KEYS
    ]
    return [*own, *panes, Binding("escape", "restore", "Back", show=False)]


def key_hints(actions: Sequence[DashboardAction]) -> tuple[KeyHint, ...]:
    """Footer entries of actions."""
    return tuple(
        KeyHint(
            key=action.key_label,
            label=action.label,
            action=f"screen.{action.name}",
            rank=action.rank,
        )
        for action in actions
        if action.rank is not None
    )
