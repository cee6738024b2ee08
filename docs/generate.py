"""Writes the parts of the documentation that the code knows best. Run by ``make docs``."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import groupby
from pathlib import Path

from app.config import SETTING_FIELDS
from app.dashboard.actions import ACTIONS, PANE_KEYS

DOCS = Path(__file__).parent
PAGE = DOCS / "configuration.md"
DASHBOARD = DOCS / "dashboard.md"
INTERFACE = DOCS / "openapi.json"
_ACTIONS = re.compile(r"(<!-- actions: [^\n]*-->\n).*?(<!-- end of actions -->)", re.DOTALL)
_PLACE = re.compile(r"(<!-- settings: [^\n]*-->\n).*?(<!-- end of settings -->)", re.DOTALL)


def settings_table() -> str:
    """Every setting as a row of a Markdown table."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for item in SETTING_FIELDS.values():
        default = "none" if item.default in (None, (), "") else f"`{json.dumps(item.default)}`"
        lines.append(f"| `{item.name}` | {default} | {item.description} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """A page with the table of settings in its place."""
    return _PLACE.sub(lambda match: match.group(1) + settings_table() + match.group(2), page)


def actions_table() -> str:
    """Every action of the dashboard as a row of a Markdown table, under its group."""
    lines: list[str] = []
    for group, actions in groupby(ACTIONS, key=lambda action: action.group):
        lines += ["", f"### {group}", "", "| key | action | what it does |", "|---|---|---|"]
        for action in actions:
            key = action.key_label.replace("|", "\\|")
            lines.append(f"| `{key}` | {action.title} | {action.help} |")
    panes = ", ".join(f"`{key}` {pane}" for key, pane in PANE_KEYS)
    lines += ["", f"One pane alone: {panes}.", ""]
    return "\n".join(lines)


def with_actions(page: str) -> str:
    """A page with the table of actions in its place."""
    return _ACTIONS.sub(lambda match: match.group(1) + actions_table() + match.group(2), page)


def interface() -> str:
    """The HTTP interface as an OpenAPI document, one that does not depend on any model."""
    from app.api.application import build_routes
    from app.api.bridge import DeltaBridge
    from app.api.service import TurnService
    from app.api.settings import ApiSettings
    from app.metrics import Metrics
    from engine.scripted import ScriptedEngine
    from engine.scripted_world import DemoWorld

    loop = asyncio.new_event_loop()
    engine = ScriptedEngine(DemoWorld(seed=0, epoch_s=0.0))
    service = TurnService(engine, ApiSettings(), DeltaBridge(loop))
    api = build_routes(service, Metrics(lambda: engine.snapshot))
    loop.close()
    return json.dumps(api.openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
    DASHBOARD.write_text(with_actions(DASHBOARD.read_text("utf-8")), "utf-8")
    INTERFACE.write_text(interface(), "utf-8")
