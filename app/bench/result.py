"""What a run found: samples by name, with what they were measured on, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import InvalidRequestError

FORMAT = "stoker-bench/1"


class ResultError(InvalidRequestError):
    """A file is no result of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Samples of one quantity.

    Attributes:
        group: What it belongs to, like ``decode``.
        label: Which one of the group, like ``8 streams``.
        unit: Of the samples.
        samples: At least one.
        more_is_better: Whether a larger number is the better one.
    """

    group: str
    label: str
    unit: str
    samples: tuple[float, ...]
    more_is_better: bool

    @property
    def p50(self) -> float:
        """The median."""
        return self.percentile(0.5)

    def percentile(self, share: float) -> float:
        """The sample below which a share of them lies, between neighbours in proportion."""
        ordered = sorted(self.samples)
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run.

    Attributes:
        server: What was measured, in words.
        model: What it calls its model.
        machine: What this program ran on; the server may be elsewhere.
        measures: What was found.
        notes: What was left out, and why.
    """

    server: str
    model: str
    machine: Mapping[str, Any]
    measures: Sequence[Measure]
    notes: Sequence[str] = ()

    def to_json(self) -> str:
        """As text for a file."""
        measures = [
            {
                "group": each.group,
                "label": each.label,
                "unit": each.unit,
                "more_is_better": each.more_is_better,
                "p50": each.p50,
                "p95": each.percentile(0.95),
                "p99": each.percentile(0.99),
                "samples": list(each.samples),
            }
            for each in self.measures
        ]
        data = {
            "format": FORMAT,
            "server": self.server,
            "model": self.model,
            "machine": dict(self.machine),
            "measures": measures,
            "notes": list(self.notes),
        }
        return json.dumps(data, indent=2)


def read_result(path: Path) -> Result:
    """Reads what ``Result.to_json`` has written.

    Raises:
        ResultError: The file is something else, or cannot be read.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
        if data["format"] != FORMAT:
            raise ResultError(f"{path} is of another version: {data['format']!r}")
        return Result(
            server=str(data["server"]),
            model=str(data["model"]),
            machine=dict(data["machine"]),
            measures=[_measure(each) for each in data["measures"]],
            notes=[str(note) for note in data["notes"]],
        )
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ResultError(f"{path} is no result of `stoker bench speed`") from error


def _measure(data: Mapping[str, Any]) -> Measure:
    samples = tuple(float(each) for each in data["samples"])
    if not samples:
        raise ValueError("no samples")
    return Measure(
        group=str(data["group"]),
        label=str(data["label"]),
        unit=str(data["unit"]),
        samples=samples,
        more_is_better=bool(data["more_is_better"]),
    )
