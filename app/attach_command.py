"""``stoker attach``: the dashboard of a Stoker that runs.

Importing this module is cheap: it is part of every ``--help``.
"""

from __future__ import annotations

import argparse
from typing import Any, TypeAlias

from app.address import api_url
from app.config import SETTING_FIELDS, ConfigError, load_settings
from app.replay_command import add_record, record_path
from app.terminal import require_terminal

WEB_PORT = 8001
Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

_EXAMPLES = """\
examples:
  stoker attach
  stoker attach http://10.0.0.5:8000 --key KEY
  stoker attach --readonly
  stoker attach --web
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
    attach.add_argument("--web", action="store_true", help="in a browser on this machine")
    attach.add_argument(
        "--web-port", type=_port, metavar="PORT", help=f"where the browser finds it ({WEB_PORT})"
    )
    attach.set_defaults(run=_run)


def add_readonly(parser: argparse.ArgumentParser) -> None:
    """Adds the flag; where it is not given it leaves no trace."""
    parser.add_argument(
        "--readonly",
        action="store_true",
        default=argparse.SUPPRESS,
        help="hide the actions that change something",
    )


def _port(given: str) -> int:
    """A port of a flag."""
    number = int(given) if given.isdecimal() else -1
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("must be a port from 0 to 65535")
    return number


def _run(arguments: argparse.Namespace) -> int:
    given = vars(arguments)
    is_web = arguments.web or arguments.web_port is not None
    if is_web and record_path(arguments) is not None:
        raise ConfigError("--record goes without --web: record where the engine runs")
    if not is_web:
        require_terminal()
    settings = load_settings({name: given[name] for name in SETTING_FIELDS if name in given})
    url, key = arguments.url or api_url(settings), arguments.key or settings.api_key
    if is_web:
        from app.attach import run_in_browser

        return run_in_browser(
            url,
            key,
            theme=settings.given_theme,
            plain_glyphs=settings.plain_glyphs,
            is_readonly="readonly" in given,
            port=WEB_PORT if arguments.web_port is None else arguments.web_port,
        )
    from app.attach import run_attached

    return run_attached(
        url,
        key,
        theme=settings.given_theme,
        plain_glyphs=settings.plain_glyphs,
        is_readonly="readonly" in given,
        record=record_path(arguments),
    )
