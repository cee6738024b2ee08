"""``stoker selftest`` as it is typed; cheap to import, as part of every help."""

from __future__ import annotations

import argparse
import sys
from typing import Any, TypeAlias

from app.config import SETTING_FIELDS, load_settings
from app.models_command import check_model

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

EXIT_FAILED = 2
_DESCRIPTION = (
    "Loads the model and serves it on a port of its own; then reads a prompt in, generates, checks "
    "what /metrics counts, and drops a connection. Nothing is kept. Exit status 2 if anything is "
    "not as it has to be."
)


def add_selftest(commands: Parsers, settings: argparse.ArgumentParser) -> None:
    """Adds the command.

    Args:
        commands: Where to add it.
        settings: Flags of the settings.
    """
    selftest = commands.add_parser(
        "selftest",
        help="start, preload, generate, cancel, count: does it all work here?",
        description=_DESCRIPTION,
        parents=[settings],
    )
    selftest.add_argument("--json", action="store_true", help="print JSON")
    selftest.add_argument("--quiet", action="store_true", help="say nothing but errors")
    selftest.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    given = vars(arguments)
    settings = load_settings({name: given[name] for name in SETTING_FIELDS if name in given})
    check_model(settings)
    from app.selftest import as_json, as_table, run_selftest

    checks = run_selftest(settings)
    bad = [check for check in checks if not check.is_well]
    if arguments.json:
        print(as_json(checks))
    elif not arguments.quiet:
        print(as_table(checks))
    for check in bad:
        print(f"stoker: {check.name}: {' '.join(check.text.split())}", file=sys.stderr)
    return EXIT_FAILED if bad else 0
