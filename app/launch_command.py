"""``stoker launch`` as it is typed; cheap to import, as part of every ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, TypeAlias

from app.clients import CLIENTS
from app.config import SETTING_FIELDS, ConfigError, load_settings

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

_EXAMPLES = """\
examples:
  stoker launch claude
  stoker launch claude -- --resume
  stoker launch codex -- exec "What does this repository do?"
  stoker launch opencode --port 9000
  eval "$(stoker launch claude --print-env)"
"""


def add_launch(commands: Parsers, settings: argparse.ArgumentParser) -> None:
    """Adds the command.

    Args:
        commands: Where to add it.
        settings: Flags of the settings.
    """
    launch = commands.add_parser(
        "launch",
        help="start a coding agent that talks to Stoker",
        usage="stoker launch [options] {claude,codex,opencode} [-- its arguments]",
        description="Starts a coding agent that talks to the Stoker that runs, or to one that is "
        "started for it. The agent's own configuration is left alone.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[settings],
    )
    launch.add_argument("client", choices=tuple(CLIENTS), help="which one")
    launch.add_argument("--url", default="", help="where Stoker listens (from the settings)")
    launch.add_argument("--key", default="", help="its API key (from the setting api_key)")
    launch.add_argument(
        "--print-env", action="store_true", help="print lines to paste, and start nothing"
    )
    launch.add_argument("--json", action="store_true", help="with --print-env: print JSON")
    launch.passes_on = True
    launch.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    given = vars(arguments)
    if arguments.json and not arguments.print_env:
        raise ConfigError("--json goes with --print-env")
    flags = {name: given[name] for name in SETTING_FIELDS if name in given}
    settings = load_settings(flags)
    from app.agents_client import checked_url
    from app.launch import Target, print_launch, run_launch

    client = CLIENTS[arguments.client]
    target = Target(
        settings=settings,
        flags=_words(flags),
        url=checked_url(arguments.url) if arguments.url else "",
        key=arguments.key,
    )
    if arguments.print_env:
        print_launch(client, arguments.passed_on, target, as_json=arguments.json)
        return 0
    return run_launch(client, arguments.passed_on, target)


def _words(flags: Mapping[str, object]) -> tuple[str, ...]:
    """Settings as they were given on a command line."""
    words: list[str] = []
    for name, value in flags.items():
        words += (
            [SETTING_FIELDS[name].flag]
            if value is True
            else [f"{SETTING_FIELDS[name].flag}={value}"]
        )
    return tuple(words)
