"""``stoker replay`` and ``--record`` as they are typed; cheap to import, as part of every help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypeAlias

from app.config import SETTING_FIELDS, load_settings
from app.terminal import require_terminal
from engine.errors import InvalidRequestError

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

MIN_SPEED, MAX_SPEED = 0.1, 100.0
_EXAMPLES = """\
examples:
  stoker --record monday.stoker-recording
  stoker replay monday.stoker-recording --speed 20
"""


def add_replay(commands: Parsers, settings: argparse.ArgumentParser) -> None:
    """Adds the command.

    Args:
        commands: Where to add it.
        settings: Flags of the settings.
    """
    replay = commands.add_parser(
        "replay",
        help="the dashboard on what --record has written",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[settings],
    )
    replay.add_argument("file", help="the recording")
    replay.add_argument(
        "--speed", type=float, default=1.0, metavar="N", help="recorded seconds in a second (1)"
    )
    replay.set_defaults(run=_run)


def add_record(parser: argparse.ArgumentParser) -> None:
    """Adds the flag; where it is not given it leaves no trace."""
    parser.add_argument(
        "--record",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="write what happens into a file, for `stoker replay`",
    )


def record_path(arguments: argparse.Namespace) -> Path | None:
    """Where to record to; None where nothing is to be recorded."""
    name: str | None = vars(arguments).get("record")
    return Path(name) if name is not None else None


def _run(arguments: argparse.Namespace) -> int:
    if not MIN_SPEED <= arguments.speed <= MAX_SPEED:
        raise InvalidRequestError(f"--speed must be between {MIN_SPEED:g} and {MAX_SPEED:g}")
    require_terminal()
    given = vars(arguments)
    settings = load_settings({name: given[name] for name in SETTING_FIELDS if name in given})
    from app.replay import run_replay

    return run_replay(
        Path(arguments.file),
        speed=arguments.speed,
        theme=settings.given_theme,
        plain_glyphs=settings.plain_glyphs,
    )
