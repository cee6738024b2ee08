"""The engine's state in a file, as ``GET /admin/state`` gives it."""

from __future__ import annotations

import itertools
import json
import os
from datetime import datetime
from pathlib import Path

from engine.snapshot import EngineSnapshot, to_json

SUFFIX = ".json"


def write_snapshot(snapshot: EngineSnapshot, folder: Path) -> Path:
    """Writes a snapshot into a new file named after its time.

    It names agents, so only its owner may read it.

    Raises:
        OSError: It cannot be written.
    """
    stamp = datetime.fromtimestamp(snapshot.time).strftime("%Y-%m-%d-%H%M%S")
    ends = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    for end in ends:
        path = folder / f"stoker-snapshot-{stamp}{end}{SUFFIX}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        break
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(to_json(snapshot), file, indent=1)
        file.write("\n")
    return path
