"""Result files: one per run, named by the moment, never overwritten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.bench.machine import machine_facts

RESULTS_FOLDER = Path(__file__).parent / "results"


def summarize(samples: Sequence[float]) -> dict[str, Any]:
    """Percentiles of raw samples, and the samples themselves.

    Args:
        samples: At least one.
    """
    p50, p95, p99 = (float(np.percentile(samples, share)) for share in (50, 95, 99))
    return {"p50": p50, "p95": p95, "p99": p99, "num_samples": len(samples), "raw": list(samples)}


def write_result(name: str, results: dict[str, Any], folder: Path = RESULTS_FOLDER) -> Path:
    """Writes a result with the machine it was measured on.

    Args:
        name: What was measured; first part of the file's name.
        results: JSON-serialisable.
        folder: Where to.

    Returns:
        The new file.

    Raises:
        FileExistsError: A result of that name and second is there already.
    """
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    content = {
        "benchmark": name,
        "time": now.isoformat(timespec="seconds"),
        "machine": machine_facts(),
        **results,
    }
    with path.open("x") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    return path
