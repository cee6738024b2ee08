"""``stoker models swap``: changes the model of a Stoker that runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, TypeAlias

from app.address import api_url
from app.config import load_settings
from engine.cache.quantisation import KV_BITS
from engine.model_commands import DEFAULT_DRAIN_S

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"
_PARTS = ("prepare", "drain", "save", "unload", "load", "check", "rebuild")


def add_swap(actions: Parsers) -> None:
    """Adds the command.

    Args:
        actions: Where to add it.
    """
    swap = actions.add_parser("swap", help="change the model of a running Stoker")
    swap.add_argument("id", help="the model, or the path of a model folder on Stoker's machine")
    swap.add_argument(
        "--drain",
        type=float,
        default=DEFAULT_DRAIN_S,
        metavar="SECONDS",
        help=f"how long running turns may go on ({DEFAULT_DRAIN_S:g})",
    )
    swap.add_argument(
        "--kv-bits",
        type=int,
        choices=(0, *KV_BITS),
        metavar="N",
        help="bits of its keys and values, 8 or 4; 0 for lossless (as it is set for the model)",
    )
    swap.add_argument("--json", action="store_true", help="print JSON")
    swap.add_argument("--url", help="where Stoker listens (from the settings host and port)")
    swap.add_argument("--key", help="its API key (from the setting api_key)")
    swap.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from app.agents_client import SWAP_TIMEOUT_S, AgentsClient, ServerError

    settings = load_settings({})
    client = AgentsClient(arguments.url or api_url(settings), arguments.key or settings.api_key)
    wanted = {"model": arguments.id, "drain_s": arguments.drain}
    if arguments.kv_bits is not None:
        wanted["kv_bits"] = arguments.kv_bits
    report = client.post("/admin/models/swap", wanted, timeout_s=SWAP_TIMEOUT_S)
    try:
        text = json.dumps(report, indent=2) if arguments.json else _words(report)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError("that Stoker is of another version than this command") from error
    sys.stdout.write(f"{text}\n")
    return 0


def _words(report: Mapping[str, Any]) -> str:
    from widgets.format import clean

    parts = report["parts"]
    each = ", ".join(f"{name} {float(parts[f'{name}_s']):.1f}" for name in _PARTS)
    model, before = clean(str(report["to_model"])), clean(str(report["from_model"]))
    return f"{model} is active instead of {before}, after {float(parts['total_s']):.1f} s ({each})"
