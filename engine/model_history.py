"""What loading and running each model took here, kept for estimates."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "model-history.json"
MAX_MODELS = 256
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """What was measured of a model when it was last active.

    Attributes:
        load_s: Seconds from nothing to the first step that could be taken.
        prefill_tok_s: Prompt tokens a second; None where none was computed.
    """

    load_s: float
    prefill_tok_s: float | None = None


class ModelHistory:
    """Runs by fingerprint. What cannot be read or written is not remembered, and no harm done."""

    def __init__(self, cache_dir: Path) -> None:
        """Reads what there is.

        Args:
            cache_dir: Where things that can be made again are kept.
        """
        self._path = cache_dir / FILE_NAME
        self._runs = _read(self._path)

    def get(self, fingerprint: str | None) -> ModelRun | None:
        """What is known of a model."""
        return self._runs.get(fingerprint) if fingerprint else None

    def put(self, fingerprint: str, run: ModelRun) -> None:
        """Remembers a model's run; what was not measured this time stays what it was."""
        old = self._runs.pop(fingerprint, None)
        if old is not None and run.prefill_tok_s is None:
            run = ModelRun(load_s=run.load_s, prefill_tok_s=old.prefill_tok_s)
        self._runs[fingerprint] = run
        while len(self._runs) > MAX_MODELS:
            del self._runs[next(iter(self._runs))]
        with contextlib.suppress(OSError):
            self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(f".{os.getpid()}.part")
        part.write_text(
            json.dumps({name: asdict(run) for name, run in self._runs.items()}, indent=1) + "\n",
            "utf-8",
        )
        part.replace(self._path)


def _read(path: Path) -> dict[str, ModelRun]:
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_MAX_BYTES))
        return {name: _run(run) for name, run in data.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def _run(data: dict[str, object]) -> ModelRun:
    rate = data.get("prefill_tok_s")
    load_s = data["load_s"]
    if not isinstance(load_s, int | float) or not isinstance(rate, int | float | None):
        raise TypeError("no run of a model")
    return ModelRun(load_s=float(load_s), prefill_tok_s=None if rate is None else float(rate))
