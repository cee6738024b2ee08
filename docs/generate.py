"""Writes the parts of the documentation that the code knows best. Run by ``make docs``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from app.config import SETTING_FIELDS

DOCS = Path(__file__).parent
PAGE = DOCS / "configuration.md"
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


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
