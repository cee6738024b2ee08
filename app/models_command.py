"""``stoker models``: the models on this machine.

Importing this module is cheap: it is part of every ``--help``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from app.config import BUNDLED_MODEL, ConfigError, Settings
from app.convert_command import add_convert
from app.models_keep_command import add_default, add_rm
from app.paths import find_paths
from app.pull_command import add_pull
from app.swap_command import add_swap
from engine.errors import ModelNotFoundError

if TYPE_CHECKING:
    from engine.models.entry import ModelEntry, Room

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

_EXAMPLES = """\
examples:
  stoker models list
  stoker models show mlx-community/Qwen3-0.6B-4bit
  stoker models show ./my-model --json
  stoker models pull mlx-community/Qwen3-0.6B-4bit
  stoker models convert bundled --bits 8
  stoker models swap mlx-community/Qwen3-0.6B-4bit
"""


def add_models(commands: Parsers) -> None:
    """Adds the command and what belongs to it.

    Args:
        commands: Where to add it.
    """
    models = commands.add_parser(
        "models",
        help="list, inspect, bring and convert the models on this machine",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = models.add_subparsers(title="commands", metavar="command", required=True)
    shown = actions.add_parser("list", help="all models, a line each")
    shown.set_defaults(run=_run_list)
    one = actions.add_parser("show", help="one model, and whether it can be loaded")
    one.add_argument("id", help="the model, or the path of a model folder")
    one.set_defaults(run=_run_show)
    for parser in (shown, one):
        parser.add_argument("--json", action="store_true", help="print JSON")
    add_pull(actions)
    add_convert(actions)
    add_rm(actions)
    add_default(actions)
    add_swap(actions)


def refusal_of(reference: str) -> str:
    """Why a model cannot be served, as far as its folder tells; empty if nothing speaks against it.

    Args:
        reference: An id of the catalogue, or the path of a folder.
    """
    from engine.models.entry import Room
    from engine.models.places import show_model

    if Path(reference).expanduser().is_dir() and not Path(reference, "config.json").is_file():
        return f"{reference!r} is not a folder with a config.json"
    try:
        entry = show_model(reference, find_paths().models_dir, Room(0, widens=False))
    except ModelNotFoundError as error:
        return str(error)
    return f"{reference!r} cannot be loaded: {entry.refusal}" if entry.refusal else ""


def check_model(settings: Settings) -> None:
    """Refuses a model that cannot be served, as far as a glance can tell.

    Raises:
        ConfigError: The model is not there, or nothing here can run it.
    """
    if settings.model != BUNDLED_MODEL and (refusal := refusal_of(settings.model)):
        raise ConfigError(f"{settings.origins['model']}: {refusal}")


def device_room() -> Room:
    """What this machine's device has to offer."""
    from engine.models.entry import Room
    from engine.runtime.device import DevicePlan, detect

    profile = detect(DevicePlan())
    return Room(profile.memory_limits.device_bytes, widens=profile.compute_dtype == "float32")


def _run_list(arguments: argparse.Namespace) -> int:
    from app.models_table import models_table
    from engine.models.places import list_models

    entries = list_models(find_paths().models_dir, device_room())
    if arguments.json:
        text = json.dumps({"models": [asdict(entry) for entry in entries]}, indent=2)
    else:
        text = models_table(entries)
    sys.stdout.write(text + "\n")
    return 0


def _tried(entry: ModelEntry) -> ModelEntry:
    """A model with what trying its tokenizer and its chat template has shown."""
    # The bundled model may not have been made yet.
    if entry.refusal or not Path(entry.path).is_dir():
        return entry
    from engine.models.text_trial import try_text

    trial = try_text(Path(entry.path))
    return replace(entry, refusal=trial.refusal, warning=trial.warning)


def _run_show(arguments: argparse.Namespace) -> int:
    from app.models_table import model_text
    from engine.models.places import show_model

    entry = _tried(show_model(arguments.id, find_paths().models_dir, device_room()))
    text = json.dumps(asdict(entry), indent=2) if arguments.json else model_text(entry)
    sys.stdout.write(text + "\n")
    return 0
