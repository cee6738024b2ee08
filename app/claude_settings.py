"""Claude Code's settings files, whose ``env`` outranks the environment it is started with."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_MANAGED = {
    "darwin": Path("/Library/Application Support/ClaudeCode/managed-settings.json"),
    "linux": Path("/etc/claude-code/managed-settings.json"),
}


@dataclass(frozen=True, slots=True)
class Override:
    """A settings file that gets in the way.

    Attributes:
        path: The file.
        names: The variables that it sets otherwise.
    """

    path: Path
    names: tuple[str, ...]

    @property
    def words(self) -> str:
        """What is wrong, and what to do about it."""
        return (
            f"{self.path} sets {', '.join(self.names)} in its `env`, which outranks what "
            "`stoker launch claude` sets: take it out there"
        )


def overrides(
    wanted: Mapping[str, str], environ: Mapping[str, str], directory: Path
) -> list[Override]:
    """The settings files that set a variable to something else than is wanted.

    Args:
        wanted: Variables that Claude Code is to be told; an empty value is met by none.
        environ: Environment variables, for where the user's own file lies.
        directory: Where Claude Code is started.
    """
    found = []
    for path in _settings_files(environ, directory):
        given = _environment_in(path)
        names = [name for name, value in wanted.items() if name in given and given[name] != value]
        if names:
            found.append(Override(path, tuple(names)))
    return found


def _settings_files(environ: Mapping[str, str], directory: Path) -> list[Path]:
    home = Path(environ.get("HOME") or Path.home())
    own = Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    managed = _MANAGED.get(sys.platform)
    return [
        *([managed] if managed else []),
        own / "settings.json",
        directory / ".claude" / "settings.json",
        directory / ".claude" / "settings.local.json",
    ]


def _environment_in(path: Path) -> dict[str, str]:
    """The ``env`` of a settings file; Claude Code, too, takes nothing from one it cannot read."""
    try:
        given = json.loads(path.read_text("utf-8"))["env"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(given, dict):
        return {}
    return {name: str(value) for name, value in given.items()}
