"""What a person can do to the engine as a whole and to Stoker; part of the registry of actions."""

from __future__ import annotations

from app.dashboard.action import SYSTEM, DashboardAction, Power

SYSTEM_ACTIONS: tuple[DashboardAction, ...] = (
    DashboardAction(
        name="batch_window",
        keys="W",
        key_label="W",
        label="batch window",
        title="Change the batch window",
        help="Choose how long an idle engine waits for company for a first request.",
        group=SYSTEM,
        needs=Power.CHANGE,
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
        name="save_snapshot",
        keys="S",
        key_label="S",
        label="snapshot",
        title="Save a snapshot",
        help="Save the engine's state as JSON in the folder that Stoker was started in.",
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
        rank=4,
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
