"""``stoker models pull``: a model of a hub, brought to this machine.

Importing this module is cheap: it is part of every ``--help``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from app.paths import find_paths
from app.speech import complain, tell

if TYPE_CHECKING:
    from pathlib import Path

    from app.pull.progress import PullProgress
    from app.pull.pull import PulledModel

DEFAULT_COLUMNS = 80
_EXAMPLES = """\
examples:
  stoker models pull mlx-community/Qwen3-0.6B-4bit
  stoker models pull mlx-community/Qwen3-0.6B-4bit@a1b2c3d4
  HF_ENDPOINT=https://hub.example.org stoker models pull org/name

What broke off goes on where it stopped when it is pulled again.
"""


def add_pull(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command.

    Args:
        actions: The commands of ``stoker models``.
    """
    parser = actions.add_parser(
        "pull",
        help="bring a model from a hub to this machine",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="ORG/NAME[@REVISION]", help="the model, as the hub has it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.set_defaults(run=_run_pull)


def _run_pull(arguments: argparse.Namespace) -> int:
    import threading

    from app.pull.pull import Puller
    from app.pull.reference import HubAddress, ModelReference
    from engine.models.places import hub_cache

    model = ModelReference.parse(arguments.model)
    line = _ProgressLine(show=not arguments.quiet)
    puller = Puller(
        address=HubAddress.of_environment(),
        cache=hub_cache(),
        report=line.report,
        stop=threading.Event(),
    )
    try:
        pulled = puller.pull(model)
    except KeyboardInterrupt:
        line.clear()
        complain("stopped; what came is kept, and the same command goes on with it")
        raise
    finally:
        line.clear()
    model_id = _model_id(pulled.folder)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_data(pulled, model_id), indent=2) + "\n")
    else:
        tell(_words(pulled, model_id))
        tell(f"run it with: stoker --model {model_id}")
    return 0


def _model_id(folder: Path) -> str:
    """What ``--model`` takes for a folder of the cache."""
    from engine.models.places import find_places

    for place in find_places(find_paths().models_dir):
        if place.folder == folder:
            return place.model_id
    return str(folder)


def _words(pulled: PulledModel, model_id: str) -> str:
    from widgets.format import short_bytes

    size = short_bytes(pulled.size_bytes)
    if not pulled.num_new_bytes:
        return f"{model_id} is here already, at commit {pulled.commit} ({size})"
    return f"{model_id} is here, at commit {pulled.commit} ({size})"


def _as_data(pulled: PulledModel, model_id: str) -> dict[str, object]:
    return {
        "model_id": model_id,
        "repository": pulled.repository,
        "commit": pulled.commit,
        "path": str(pulled.folder),
        "size_bytes": pulled.size_bytes,
        "new_bytes": pulled.num_new_bytes,
    }


class _ProgressLine:
    """Progress on standard error: a line that is written over, or one per file in a log."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._is_terminal = sys.stderr.isatty()
        self._file = ""

    def report(self, progress: PullProgress) -> None:
        """Shows how far it is."""
        if not self._show:
            return
        if self._is_terminal:
            # Some terminals say that they have no columns.
            width = os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_COLUMNS
            sys.stderr.write(f"\r\x1b[K{progress_words(progress)[: width - 1]}")
        elif progress.file != self._file:
            sys.stderr.write(f"{progress_words(progress)}\n")
        self._file = progress.file
        sys.stderr.flush()

    def clear(self) -> None:
        """Takes the line off the terminal."""
        if self._show and self._is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def progress_words(progress: PullProgress) -> str:
    """How far a pull is, in one line."""
    from widgets.format import duration, percent, short_bytes

    done, total = short_bytes(progress.num_done_bytes), short_bytes(progress.num_total_bytes)
    words = f"{percent(progress.share):>4} {done:>4} of {total}"
    if progress.eta_s is not None:
        words += f"  {short_bytes(int(progress.bytes_per_s))}/s  {duration(progress.eta_s)} left"
    return f"{words}  {progress.file}"
