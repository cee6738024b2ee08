"""``stoker config show``: every setting, its value and where it came from."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from app.config import DEFAULT, SETTING_FIELDS, Settings
from app.logs import printable
from app.paths import Paths
from engine.cache.quantisation import format_key
from engine.kv_quality import known_change, quality_words

_HIDDEN = "(set, not shown)"


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting for people.

    Attributes:
        name: Its name.
        value: Its value; a secret's is not told.
        origin: Where it came from: a flag, a variable, a file.
    """

    name: str
    value: str
    origin: str

    @property
    def is_default(self) -> bool:
        """Whether nobody chose it."""
        return self.origin == DEFAULT


def setting_rows(settings: Settings) -> list[SettingRow]:
    """Every setting."""
    return [
        SettingRow(name, str(_shown(settings, name)), settings.origins[name])
        for name in SETTING_FIELDS
    ]


def folder_rows(paths: Paths) -> list[tuple[str, str]]:
    """Name and path of every folder."""
    return [(name, str(path)) for name, path in dataclasses.asdict(paths).items()]


def settings_as_json(settings: Settings, paths: Paths) -> str:
    """Settings and folders as a JSON object."""
    fields = {
        name: {"value": _shown(settings, name), "origin": settings.origins[name]}
        for name in SETTING_FIELDS
    }
    folders = dict(folder_rows(paths))
    kv_cache = {
        "format": format_key(settings.model_quantisation),
        "perplexity_change": _perplexity_change(settings, paths),
    }
    data = {"settings": fields, "kv_cache": kv_cache, "paths": folders}
    return json.dumps(data, indent=2)


def settings_as_table(settings: Settings, paths: Paths) -> str:
    """Settings and folders in columns."""
    rows = [("setting", "value", "from")]
    rows += [(row.name, printable(row.value), row.origin) for row in setting_rows(settings)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}" for name, value, origin in rows]
    lines.append("")
    if settings.model_quantisation:
        words = quality_words(settings.model_quantisation, _perplexity_change(settings, paths))
        lines += [f"{'KV cache':{widths[0]}}  {words}", ""]
    lines += [f"{name:{widths[0]}}  {path}" for name, path in folder_rows(paths)]
    return "\n".join(lines)


def _perplexity_change(settings: Settings, paths: Paths) -> float | None:
    """What the chosen KV format was measured to lose with the chosen model."""
    if settings.model_quantisation is None:
        return 0.0
    from engine.models.catalog import known_fingerprint

    fingerprint = known_fingerprint(settings.model, paths.models_dir)
    if fingerprint is None:
        return None
    return known_change(paths.cache_dir, fingerprint, settings.model_quantisation)


def _shown(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if name == "aliases":
        return {alias.name: alias.model for alias in value}
    if name == "model_defaults":
        return {named.model: named.as_data() for named in value}
    if not SETTING_FIELDS[name].is_secret:
        return value
    if isinstance(value, tuple):
        names = ", ".join(key.name for key in value)
        return f"{names} {_HIDDEN}" if value else None
    return _HIDDEN if value is not None else value
