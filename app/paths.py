"""Where Stoker keeps its things."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

HOME_VARIABLE = "STOKER_HOME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Stoker's folders. None of them need exist.

    Attributes:
        config_dir: Holds the user's ``stoker.toml``.
        data_dir: What must not be lost.
        cache_dir: What can be made again.
        log_dir: Log files.
    """

    config_dir: Path
    data_dir: Path
    cache_dir: Path
    log_dir: Path

    @property
    def models_dir(self) -> Path:
        """Converted models."""
        return self.data_dir / "models"

    @property
    def habits_file(self) -> Path:
        """How the dashboard was left."""
        return self.data_dir / "dashboard.json"

    @property
    def exports_dir(self) -> Path:
        """Agents that were written into files by hand."""
        return self.data_dir / "exports"

    @property
    def transfers_dir(self) -> Path:
        """Agents' files while they go out or come in over HTTP."""
        return self.data_dir / "transfers"

    @property
    def config_file(self) -> Path:
        """The user's settings."""
        return self.config_dir / "stoker.toml"


def find_paths(environ: Mapping[str, str] = os.environ) -> Paths:
    """The platform's own folders, or all of them under ``STOKER_HOME`` where that is set."""
    home_text = environ.get(HOME_VARIABLE)
    if home_text:
        home = Path(home_text).expanduser().absolute()
        return Paths(
            config_dir=home, data_dir=home, cache_dir=home / "cache", log_dir=home / "logs"
        )
    folders = platformdirs.PlatformDirs("stoker", appauthor=False)
    return Paths(
        config_dir=folders.user_config_path,
        data_dir=folders.user_data_path,
        cache_dir=folders.user_cache_path,
        log_dir=folders.user_log_path,
    )
