"""Results as a chart for a terminal, one beside another where there are two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from app.bench.result import Measure, Result

BAR_WIDTH = 32
_EIGHTHS = " ▏▎▍▌▋▊▉"


def chart(result: Result) -> str:
    """One result: a bar a measure, as long as the measure is to the largest of its group."""
    lines = [f"{_plain(result.model)} at {_plain(result.server)}"]
    width = _label_width(result.measures)
    for group, found in groupby(result.measures, key=lambda each: each.group):
        measures = list(found)
        largest = max(each.p50 for each in measures)
        lines += ["", _plain(group)]
        lines += [
            f"  {_plain(each.label):<{width}}  {_bar(each.p50, largest)}  {_amount(each)}"
            for each in measures
        ]
    return "\n".join([*lines, *_notes(result)])


def comparison(first: Result, second: Result) -> str:
    """Two results: each measure of both, and how many times as good the first one is."""
    others = {(each.group, each.label): each for each in second.measures}
    lines = [
        f"1: {_plain(first.model)} at {_plain(first.server)}",
        f"2: {_plain(second.model)} at {_plain(second.server)}",
    ]
    both = [each for each in first.measures if (each.group, each.label) in others]
    width = _label_width(both)
    for group, found in groupby(both, key=lambda each: each.group):
        lines += ["", _plain(group)]
        for each in found:
            other = others[each.group, each.label]
            ratio = times_as_good(each, other)
            lines.append(
                f"  {_plain(each.label):<{width}}  {_amount(each):>14}  {_amount(other):>14}"
                f"  {'' if ratio is None else f'{ratio:8.2f}x'}"
            )
    if not both:
        lines += ["", "they have no measure in common"]
    return "\n".join([*lines, *_notes(first, "1: "), *_notes(second, "2: ")])


def times_as_good(measure: Measure, other: Measure) -> float | None:
    """How many times as good a measure is as another; None where that cannot be said."""
    above, below = measure.p50, other.p50
    if not measure.more_is_better:
        above, below = below, above
    return above / below if below > 0 else None


def _bar(value: float, largest: float) -> str:
    eighths = round(8 * BAR_WIDTH * value / largest) if largest > 0 else 0
    full, rest = divmod(eighths, 8)
    bar = "█" * full + (_EIGHTHS[rest] if rest else "")
    return f"{bar:<{BAR_WIDTH}}"


def _amount(measure: Measure) -> str:
    value = measure.p50
    digits = 0 if value >= 100 else 1 if value >= 10 else 3
    return f"{value:,.{digits}f} {measure.unit}"


def _label_width(measures: Sequence[Measure]) -> int:
    return max((len(_plain(each.label)) for each in measures), default=0)


def _notes(result: Result, prefix: str = "") -> list[str]:
    return ["", *(f"{prefix}{_plain(note)}" for note in result.notes)] if result.notes else []


def _plain(text: str) -> str:
    """Text from a file or a server, without what would move a terminal's cursor."""
    return "".join(each if each.isprintable() else "?" for each in text)
