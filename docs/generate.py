"""Writes the parts of the documentation that the code knows best. Run by ``make docs``."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

from app.config import SETTING_FIELDS
from app.dashboard.actions import ACTIONS, PANE_KEYS
from app.dashboard.key_words import action_keys
from app.dashboard.place_keys import PLACES

DOCS = Path(__file__).parent
PAGE = DOCS / "configuration.md"
DASHBOARD = DOCS / "dashboard.md"
INTERFACE = DOCS / "openapi.json"
REFERENCE = DOCS / "http-reference.md"
MONITORING = DOCS / "monitoring.md"
_METRICS = re.compile(r"(<!-- metrics: [^\n]*-->\n).*?(<!-- end of metrics -->)", re.DOTALL)
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
            key = action_keys(action).replace("|", "\\|")
            lines.append(f"| `{key}` | {action.title} | {action.help} |")
    panes = ", ".join(f"`{key}` {pane}" for key, pane in PANE_KEYS)
    lines += ["", f"One pane alone: {panes}.", "", "### In one place alone", ""]
    lines += ["| where | keys | what they do |", "|---|---|---|"]
    for place in PLACES:
        titles = [place.title, *[""] * len(place.keys)]
        for title, (keys, words) in zip(titles, place.keys, strict=False):
            lines.append(f"| {title} | `{keys}` | {words} |")
    lines.append("")
    return "\n".join(lines)


def with_actions(page: str) -> str:
    """A page with the table of actions in its place."""
    return _ACTIONS.sub(lambda match: match.group(1) + actions_table() + match.group(2), page)


def metrics_table() -> str:
    """Every metric as a row of a Markdown table, as a Stoker at work shows them."""
    from prometheus_client.parser import text_string_to_metric_families

    from app.metrics import Metrics
    from engine.scripted_scenes import SCENES

    metrics = Metrics(SCENES["busy"])
    metrics.requests.labels("", "200")
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in text_string_to_metric_families(metrics.render().decode()):
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not name.endswith("_created"):
            words = ", ".join(f"`{label}`" for label in sorted(labels))
            lines.append(f"| `{name}` | {family.type} | {words} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def with_metrics(page: str) -> str:
    """A page with the table of metrics in its place."""
    return _METRICS.sub(lambda match: match.group(1) + metrics_table() + match.group(2), page)


def reference(document: str) -> str:
    """The HTTP interface as a page: every route with its parameters and its body."""
    described = json.loads(document)
    lines = [
        "# HTTP reference",
        "",
        "Written from [openapi.json](openapi.json), which is what `GET /openapi.json` says; every",
        "field of every body is there. [HTTP API](http.md) says what the routes are for.",
    ]
    routes = [
        (each["tags"][0], path, method.upper(), each)
        for path, methods in described["paths"].items()
        for method, each in methods.items()
    ]
    for tag, group in groupby(sorted(routes, key=lambda route: route[:3]), key=lambda r: r[0]):
        lines += ["", f"## {tag.capitalize()}"]
        for _, path, method, route in group:
            lines += ["", f"### {method} {path}", "", f"{route['summary']}.", *_details(route)]
    return "\n".join(lines) + "\n"


def _details(route: dict[str, Any]) -> list[str]:
    lines = []
    for parameter in route.get("parameters", ()):
        needed = "needed" if parameter.get("required") else "optional"
        lines.append(f"- `{parameter['name']}` in the {parameter['in']}, {needed}")
    body = route.get("requestBody", {})
    for kind, content in body.get("content", {}).items():
        properties = content.get("schema", {}).get("properties", {})
        names = ", ".join(f"`{name}`" for name in properties)
        lines.append(f"- body: `{kind}`" + (f" with {names}" if names else ""))
    replies = ", ".join(f"`{status}`" for status in route["responses"])
    return ["", *lines, f"- replies: {replies}"]


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
    MONITORING.write_text(with_metrics(MONITORING.read_text("utf-8")), "utf-8")
    document = interface()
    INTERFACE.write_text(document, "utf-8")
    REFERENCE.write_text(reference(document), "utf-8")
