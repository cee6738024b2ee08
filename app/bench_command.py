"""``stoker bench kv``: what the formats of the KV cache cost and lose, for a model.

Importing this module is cheap: it is part of every ``--help``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias

from app.config import SETTING_FIELDS, Settings, load_settings
from app.logs import printable
from app.models_command import check_model
from app.paths import find_paths
from app.progress_line import ProgressLine
from app.speed_command import add_speed
from engine.cache.quantisation import (
    KV_BITS,
    KVQuantisation,
    format_key,
    format_words,
)

if TYPE_CHECKING:
    from engine.kv_bench import KVBench, MeasuredFormat
    from engine.kv_quality import KVQualities

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

TEXT_NAME = "alice_chapter_1.txt"
TEXT_SOURCE = "Lewis Carroll, Alice's Adventures in Wonderland (1865), chapter I; public domain"
GROUP_SIZES = (64, 32)
"""Group sizes that are always measured."""
_HEADINGS = ("KV cache", "perplexity", "change", "bytes/token", "agents/GiB at 4K")
_DESCRIPTION = (
    "Measures the perplexity of a text with the KV cache as computed, in 8 and in 4 bits. The "
    "result is kept for this model, and shown where kv_bits is."
)


def add_bench(
    commands: Parsers, settings: argparse.ArgumentParser, kv_settings: argparse.ArgumentParser
) -> None:
    """Adds the command.

    Args:
        commands: Where to add it.
        settings: Flags of the settings.
        kv_settings: The same but for ``kv_bits``, which is something else to ``bench kv``.
    """
    bench = commands.add_parser("bench", help="measure what a choice costs on this machine")
    actions = bench.add_subparsers(title="commands", metavar="command", required=True)
    kv = actions.add_parser(
        "kv",
        help="what 8 and 4 bit KV caches save and lose",
        description=_DESCRIPTION,
        parents=[kv_settings],
    )
    kv.add_argument(
        "--kv-bits",
        dest="measured_bits",
        type=_bits,
        default=KV_BITS,
        metavar="8,4",
        help="what to measure beside the cache as computed (8,4)",
    )
    kv.add_argument("--json", action="store_true", help="print JSON")
    kv.set_defaults(run=_run)
    add_speed(actions, settings)


def _bits(text: str) -> tuple[int, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not chosen or any(part not in map(str, KV_BITS) for part in chosen):
        raise argparse.ArgumentTypeError("must be 8, 4 or 8,4")
    return tuple(int(part) for part in chosen)


def _run(arguments: argparse.Namespace) -> int:
    given = vars(arguments)
    settings = load_settings({name: given[name] for name in SETTING_FIELDS if name in given})
    check_model(settings)
    from app.compose import engine_settings
    from engine.kv_bench import KVBench

    show = ProgressLine()
    told = engine_settings(settings, find_paths(), keeps_caches=False)
    bench = KVBench(told, read_text(), show)
    measured = []
    for quantisation in _formats(settings, arguments.measured_bits):
        tell = partial(show, text=f"measuring {format_words(quantisation)}")
        measured.append(bench.measure(quantisation, tell))
    show.end()
    qualities = bench.keep(measured)
    report = (_as_json if arguments.json else _as_table)(bench, measured, qualities)
    sys.stdout.write(report + "\n")
    return 0


def read_text() -> str:
    """The prose that formats are measured with."""
    return (files("app") / "texts" / TEXT_NAME).read_text("utf-8")


def _formats(settings: Settings, bits: Sequence[int]) -> list[KVQuantisation | None]:
    sizes = dict.fromkeys((*GROUP_SIZES, settings.kv_group_size))
    return [None, *(KVQuantisation(each, size) for each in bits for size in sizes)]


def _as_json(bench: KVBench, measured: Sequence[MeasuredFormat], qualities: KVQualities) -> str:
    formats = [
        {
            "format": format_key(each.quantisation),
            "num_bits": each.quantisation.num_bits if each.quantisation else None,
            "group_size": each.quantisation.group_size if each.quantisation else None,
            **(asdict(each.quality) if each.quality else {"refusal": each.refusal}),
            "perplexity_change": qualities.change(format_key(each.quantisation)),
            "seconds": round(each.seconds, 2),
        }
        for each in measured
    ]
    data = {
        "model": bench.model_id,
        "lossless_dtype": bench.dtype,
        "text": {"source": TEXT_SOURCE, "num_tokens": bench.num_tokens},
        "formats": formats,
    }
    return json.dumps(data, indent=2)


def _as_table(bench: KVBench, measured: Sequence[MeasuredFormat], qualities: KVQualities) -> str:
    rows: list[tuple[str, ...]] = [_HEADINGS]
    rows += [row for each in measured if (row := _row(each, bench.dtype, qualities))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{printable(bench.model_id)}, {bench.num_tokens} tokens of {TEXT_SOURCE}", ""]
    for first, *numbers in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join((f"{first:{widths[0]}}", *cells)))
    refused = [each for each in measured if each.quality is None]
    lines += [f"{format_words(each.quantisation)}: {printable(each.refusal)}" for each in refused]
    return "\n".join(lines)


def _row(each: MeasuredFormat, dtype: str, qualities: KVQualities) -> tuple[str, ...] | None:
    quality, words = each.quality, format_words(each.quantisation)
    if quality is None:
        return None
    change = qualities.change(format_key(each.quantisation))
    return (
        words if each.quantisation else f"{words} ({dtype})",
        f"{quality.perplexity:.3f}",
        "" if change is None or not each.quantisation else f"{100 * change:+.2f} %",
        f"{quality.bytes_per_token:,}",
        f"{quality.agents_per_gib:.1f}",
    )
