"""``stoker models convert``: a model with fewer bits, judged against what it was made from.

Importing this module is cheap: it is part of every ``--help``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from app.paths import find_paths
from app.speech import tell

if TYPE_CHECKING:
    from app.model_maker import MadeModel

BITS = (8, 6, 4, 3)
GROUP_SIZES = (32, 64, 128)
RECIPES = {"mixed_4_6": 4, "mixed_3_6": 3, "mixed_3_4": 3}
"""Mixed recipes, and the bits that most weights have in each."""
_EXAMPLES = """\
examples:
  stoker models convert bundled --bits 8
  stoker models convert Qwen/Qwen3-0.6B --bits 4 --group-size 32 --name qwen-small
  stoker models convert ./my-model --recipe mixed_4_6

Each conversion is compared with its source before it is put in place. One that fails is kept, and
says why, but never becomes the default. 4 bits are the floor for work; 3 are marked unstable.
"""


def add_convert(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command.

    Args:
        actions: The commands of ``stoker models``.
    """
    parser = actions.add_parser(
        "convert",
        help="make a model with fewer bits from one that is here",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("id", help="the model, or the path of a model folder")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--bits", type=int, choices=BITS, help="bits of a weight")
    kind.add_argument("--recipe", choices=tuple(RECIPES), help="more bits where they matter most")
    parser.add_argument(
        "--group-size", type=int, choices=GROUP_SIZES, default=64, help="weights to a scale (64)"
    )
    parser.add_argument("--name", help="what to call it (the source's name and the bits)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from app.bench_command import read_text
    from app.compose import quiet_libraries
    from app.model_maker import ModelMaker
    from app.progress_line import ProgressLine

    quiet_libraries()
    paths = find_paths()
    line = ProgressLine()
    maker = ModelMaker(paths.models_dir, paths.cache_dir, read_text(), line)
    from engine.models.recipe import Recipe

    bits = arguments.bits or RECIPES[arguments.recipe]
    recipe = Recipe(bits, arguments.group_size, arguments.recipe or "")
    try:
        made = maker.convert(arguments.id, recipe, arguments.name)
    finally:
        line.end()
    if arguments.json:
        sys.stdout.write(json.dumps(_as_data(made), indent=2) + "\n")
    else:
        _tell(made)
    return 0


def _tell(made: MadeModel) -> None:
    from widgets.format import short_bytes

    tell(f"{made.model_id} is here ({short_bytes(made.size_bytes)})")
    tell(f"verdict: {made.verdict.words}")
    tell(f"run it with: stoker --model {made.model_id}")


def _as_data(made: MadeModel) -> dict[str, object]:
    return {
        "model_id": made.model_id,
        "path": str(made.folder),
        "size_bytes": made.size_bytes,
        "verdict": {**asdict(made.verdict), "passes": made.verdict.passes},
        "words": made.verdict.words,
    }
