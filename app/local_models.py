"""The models of this machine as candidates for a sum of what would fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.capacity import Candidate
from engine.cache.spec_from_config import spec_from_config
from engine.errors import ModelLoadError
from engine.models.entry import ModelEntry, Room
from engine.models.places import list_models
from engine.models.plain_files import read_object
from engine.snapshot import EngineSnapshot


def local_candidates(snapshot: EngineSnapshot, models_dir: Path) -> Sequence[Candidate]:
    """Models that would load, but for the one that runs. Reads configs and headers of weights.

    Args:
        snapshot: The running engine: its device decides how wide numbers are.
        models_dir: The folder that holds converted models.
    """
    active = snapshot.model_detail
    widens = active is not None and active.dtype == "float32"
    room = Room(snapshot.device_detail.memory_limit_bytes, widens=widens)
    found = (
        _candidate(entry, widens=widens)
        for entry in list_models(models_dir, room)
        if not entry.refusal and (active is None or entry.path != active.path)
    )
    return [each for each in found if each is not None]


def _candidate(entry: ModelEntry, *, widens: bool) -> Candidate | None:
    """A model of the catalogue; None where its cache is not understood."""
    try:
        config = read_object(Path(entry.path) / "config.json", None)
    except (OSError, ModelLoadError):
        return None
    spec = spec_from_config(config, 4 if widens else 2)
    if spec is None or not entry.max_context_tokens:
        return None
    return Candidate(
        model_id=entry.model_id,
        spec=spec,
        weight_bytes=entry.loaded_bytes,
        max_context_tokens=entry.max_context_tokens,
        number_bits=32 if widens else 16,
    )
