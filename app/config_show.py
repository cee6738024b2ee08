"""``stoker config show``: every setting, its value and where it came from."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from app.config import SETTING_FIELDS, Settings
from app.paths import Paths

_HIDDEN = "(set, not shown)"


def settings_as_json(settings: Settings, paths: Paths) -> str:
    """Settings and folders as a JSON object."""
    fields = {
        name: {"value": _shown(settings, name), "origin": settings.origins[name]}
        for name in SETTING_FIELDS
    }
    folders = {name: str(path) for name, path in dataclasses.asdict(paths).items()}
    return json.dumps({"settings": fields, "paths": folders}, indent=2)


def settings_as_table(settings: Settings, paths: Paths) -> str:
    """Settings and folders in columns."""
    rows = [("setting", "value", "from")]
    rows += [(name, str(_shown(settings, name)), settings.origins[name]) for name in SETTING_FIELDS]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}" for name, value, origin in rows]
    lines.append("")
    lines += [f"{name:{widths[0]}}  {path}" for name, path in dataclasses.asdict(paths).items()]
    return "\n".join(lines)


def _shown(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    return _HIDDEN if value is not None and SETTING_FIELDS[name].is_secret else value
