"""Writes the parts of the documentation that the code knows best. Run by ``make docs``."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from app.config import SETTING_FIELDS

DOCS = Path(__file__).parent
PAGE = DOCS / "configuration.md"
INTERFACE = DOCS / "openapi.json"
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
    INTERFACE.write_text(interface(), "utf-8")
