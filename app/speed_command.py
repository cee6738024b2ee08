"""``stoker bench speed`` and ``compare`` as they are typed; cheap, as part of every ``--help``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from app.config import SETTING_FIELDS, ConfigError, Settings, load_settings
from app.models_command import check_model

if TYPE_CHECKING:
    from app.bench.result import Result

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

ENGINE_SETTINGS = (
    "model",
    "memory_limit_bytes",
    "kv_budget_bytes",
    "kv_disk_bytes",
    "kv_bits",
    "kv_group_size",
    "max_waiting",
    "decode_stall_ms",
    "batch_window_ms",
)
"""Settings that a server of its own is started with."""
MAX_SERVERS = 2
MAX_ROUNDS = 100
_EXAMPLES = """\
examples:
  stoker bench speed                        a Stoker of its own, with the settings
  stoker bench speed --quick --save now.json
  stoker bench speed --url http://127.0.0.1:8000 --url http://127.0.0.1:8080
                                            two servers, one after the other
  stoker bench compare before.json now.json
"""


def add_speed(actions: Parsers, settings: argparse.ArgumentParser) -> None:
    """Adds both commands.

    Args:
        actions: Where to add them.
        settings: Flags of the settings.
    """
    speed = actions.add_parser(
        "speed",
        help="how fast a server is: prefill, decode, agents that come back",
        description="Measures a Stoker that is started for it, or servers that run: any that "
        "speaks chat completions. Of a server that is no Stoker, what needs one is left out.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[settings],
    )
    speed.add_argument(
        "--url", action="append", default=[], help="a server that runs; twice to compare two"
    )
    speed.add_argument(
        "--key", action="append", default=[], help="the API key of each --url, in their order"
    )
    speed.add_argument("--rounds", type=_rounds, default=3, help="samples of each quantity (3)")
    speed.add_argument("--quick", action="store_true", help="one round, and less of everything")
    speed.add_argument(
        "--swap", metavar="MODEL", help="measure a change to this model and back too (of a Stoker)"
    )
    speed.add_argument("--save", type=Path, metavar="FILE", help="a new file for the result")
    speed.add_argument("--json", action="store_true", help="print JSON")
    speed.set_defaults(run=_run_speed)
    compare = actions.add_parser("compare", help="two results that `bench speed` has saved")
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)
    compare.set_defaults(run=_run_compare)


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_ROUNDS:
        raise argparse.ArgumentTypeError(f"must be between 1 and {MAX_ROUNDS}")
    return int(text)


def _run_speed(arguments: argparse.Namespace) -> int:
    _check(arguments)
    results = _measure(arguments)
    from app.bench.chart import chart, comparison

    if arguments.save:
        # Both results of two servers: the second one's file is named after the first's.
        for number, result in enumerate(results):
            _save(_numbered(arguments.save, number), result)
    if arguments.json:
        parts = [result.to_json() for result in results]
        sys.stdout.write((parts[0] if len(parts) == 1 else f"[{','.join(parts)}]") + "\n")
        return 0
    shown = [chart(result) for result in results]
    if len(results) == MAX_SERVERS:
        shown.append(comparison(*results))
    sys.stdout.write("\n\n".join(shown) + "\n")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuses at once what would be found out at the end.

    Raises:
        ConfigError: The flags do not go together, or a file is in the way.
    """
    if len(arguments.url) > MAX_SERVERS:
        raise ConfigError(f"--url may be given {MAX_SERVERS} times at most")
    if len(arguments.key) > len(arguments.url):
        raise ConfigError("--key goes with a --url each; for Stoker's own key set STOKER_API_KEY")
    if arguments.save:
        for number in range(max(1, len(arguments.url))):
            path = _numbered(arguments.save, number)
            if path.exists():
                raise ConfigError(f"{path} is there already; results are not overwritten")
            if not path.parent.is_dir():
                raise ConfigError(f"there is no folder {path.parent}")


def _measure(arguments: argparse.Namespace) -> list[Result]:
    given = {name: vars(arguments)[name] for name in SETTING_FIELDS if name in vars(arguments)}
    settings = load_settings(given)
    from app.bench.run import Address, measure_own, measure_running, progress
    from app.bench.speed import Plan

    plan = Plan(rounds=arguments.rounds, swap_to=arguments.swap)
    if arguments.quick:
        plan = replace(plan, rounds=1, prompt_tokens=(1000,), num_streams=(1, 8), decoded_tokens=32)
    with progress() as tell:
        if not arguments.url:
            check_model(settings)
            return [measure_own(_flags(settings), plan, tell(""))]
        keys = [*arguments.key, *[settings.api_key] * MAX_SERVERS]
        return [
            measure_running(Address(url, key), plan, tell(f"{url}: "))
            for url, key in zip(arguments.url, keys, strict=False)
        ]


def _flags(settings: Settings) -> list[str]:
    """What differs from the defaults, wherever it was set."""
    values = {name: getattr(settings, name) for name in ENGINE_SETTINGS}
    return [
        f"{SETTING_FIELDS[name].flag}={value}"
        for name, value in values.items()
        if value != SETTING_FIELDS[name].default
    ]


def _run_compare(arguments: argparse.Namespace) -> int:
    from app.bench.chart import comparison
    from app.bench.result import read_result

    results = [read_result(path) for path in (arguments.first, arguments.second)]
    sys.stdout.write(comparison(*results) + "\n")
    return 0


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number + 1}{path.suffix}") if number else path


def _save(path: Path, result: Result) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(result.to_json() + "\n")
