"""``stoker models rm`` and ``stoker models default``: which models stay, and which one is used.

Importing this module is cheap: it is part of every ``--help``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from app.config import ConfigError, load_settings
from app.paths import find_paths
from app.speech import tell
from engine.errors import InvalidRequestError, ModelLoadError

if TYPE_CHECKING:
    from engine.models.entry import ModelEntry

_SETTING = re.compile(r"^[ \t]*model[ \t]*=")
_TABLE = re.compile(r"^[ \t]*\[")


def add_rm(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``rm``.

    Args:
        actions: The commands of ``stoker models``.
    """
    parser = actions.add_parser("rm", help="remove a model that Stoker has made")
    parser.add_argument("id", help="the model")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_run_rm)


def add_default(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``default``.

    Args:
        actions: The commands of ``stoker models``.
    """
    parser = actions.add_parser("default", help="show or choose the model that Stoker starts with")
    parser.add_argument("id", nargs="?", help="the model; without it, the default is shown")
    parser.set_defaults(run=_run_default)


def _entry(reference: str) -> ModelEntry:
    from engine.models.entry import Room
    from engine.models.places import show_model

    return show_model(reference, find_paths().models_dir, Room(0, widens=False))


def _run_rm(arguments: argparse.Namespace) -> int:
    entry = _entry(arguments.id)
    if entry.origin != "stoker":
        raise ModelLoadError(
            "the bundled model is part of Stoker and stays"
            if entry.origin == "bundled"
            else f"{arguments.id!r} is not Stoker's own: it lies in {entry.path}"
        )
    if entry.model_id == load_settings({}).model:
        raise ModelLoadError(
            f"{entry.model_id!r} is the default; choose another first: "
            "`stoker models default bundled`"
        )
    if not (arguments.yes or _is_sure(entry)):
        return 1
    _remove(Path(entry.path))
    tell(f"{entry.model_id} is removed")
    return 0


def _is_sure(entry: ModelEntry) -> bool:
    from widgets.format import short_bytes

    if not sys.stdin.isatty():
        raise InvalidRequestError("this asks first, and nobody can answer here; add --yes")
    sys.stderr.write(f"remove {entry.model_id} ({short_bytes(entry.size_bytes)})? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(folder: Path) -> None:
    """Takes a model away at once: what is left of it after a crash is no model any more."""
    going = folder.with_name(f".{folder.name}.removed.tmp")
    try:
        if going.exists():
            shutil.rmtree(going)
        folder.rename(going)
        shutil.rmtree(going)
    except OSError as error:
        raise ModelLoadError(f"cannot remove {folder}: {error.strerror or error}") from error


def _run_default(arguments: argparse.Namespace) -> int:
    if arguments.id is None:
        settings = load_settings({})
        tell(f"{settings.model} ({settings.origins['model']})")
        return 0
    entry = _entry(arguments.id)
    if entry.refusal:
        raise ModelLoadError(f"{arguments.id!r} cannot be loaded: {entry.refusal}")
    from engine.models.verdict import read_verdict

    verdict = read_verdict(Path(entry.path))
    if verdict is not None and not verdict.passes:
        raise ModelLoadError(
            f"{entry.model_id!r} cannot be the default: {'; '.join(verdict.faults)}"
        )
    is_path = entry.origin == "path"
    reference = str(Path(entry.path)) if is_path else entry.model_id
    path = find_paths().config_file
    set_default(path, reference)
    tell(f"{reference} is the default now, in {path}")
    others = load_settings({})
    if others.model != reference:
        tell(f"but {others.origins['model']} says {others.model}, which goes first")
    return 0


def set_default(path: Path, reference: str) -> None:
    """Writes the ``model`` setting into a settings file; every other line stays as it is.

    Args:
        path: The file; made where it is missing.
        reference: The model; ``bundled`` is written as well, so that it can be seen.

    Raises:
        ConfigError: The file cannot be read or written, or is no TOML.
    """
    from engine.models.folder import write_whole

    try:
        text = path.read_text("utf-8") if path.exists() else ""
        tomllib.loads(text)
        changed = with_model(text, reference)
        if tomllib.loads(changed).get("model") != reference:
            raise ConfigError(f"{path}: write `model = {_quoted(reference)}` into it yourself")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, changed)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def with_model(text: str, reference: str) -> str:
    """A settings file with another ``model``, which stands before the first table."""
    line = f"model = {_quoted(reference)}\n"
    lines = text.splitlines(keepends=True)
    for number, old in enumerate(lines):
        if _TABLE.match(old):
            break
        if _SETTING.match(old):
            return "".join([*lines[:number], line, *lines[number + 1 :]])
    return line + text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
