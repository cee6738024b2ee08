"""``stoker attach``: the dashboard of a Stoker that runs.

Importing this module is cheap: it is part of every ``--help``.
"""

from __future__ import annotations

import argparse
from typing import Any, TypeAlias

from app.address import api_url
from app.config import SETTING_FIELDS, load_settings
from app.replay_command import add_record, record_path
from app.terminal import require_terminal

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

_EXAMPLES = """\
examples:
  stoker attach
  stoker attach http://10.0.0.5:8000 --key KEY
  stoker attach --readonly
"""


def add_attach(commands: Parsers, settings: argparse.ArgumentParser) -> None:
    """Adds the command.

    Args:
        commands: Where to add it.
        settings: Flags of the settings.
    """
    attach = commands.add_parser(
        "attach",
        help="the dashboard of a Stoker that runs, here or elsewhere",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[settings],
    )
    attach.add_argument(
        "url", nargs="?", help="where Stoker listens (from the settings host and port)"
    )
    attach.add_argument("--key", help="its API key (from the setting api_key)")
    add_readonly(attach)
    add_record(attach)
    attach.set_defaults(run=_run)


def add_readonly(parser: argparse.ArgumentParser) -> None:
    """Adds the flag; where it is not given it leaves no trace."""
    parser.add_argument(
        "--readonly",
        action="store_true",
        default=argparse.SUPPRESS,
        help="hide the actions that change something",
    )


def _run(arguments: argparse.Namespace) -> int:
    require_terminal()
    given = vars(arguments)
    settings = load_settings({name: given[name] for name in SETTING_FIELDS if name in given})
    from app.attach import run_attached

    return run_attached(
        arguments.url or api_url(settings),
        arguments.key or settings.api_key,
        theme=settings.given_theme,
        plain_glyphs=settings.plain_glyphs,
        is_readonly="readonly" in given,
        record=record_path(arguments),
    )
