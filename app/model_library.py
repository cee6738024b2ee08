"""The models of this machine, as an engine changes between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.model_defaults import defaults_of
from app.models_command import device_room
from engine.errors import ModelLoadError
from engine.memory import size_text
from engine.settings import Progress

if TYPE_CHECKING:
    from app.model_defaults import NamedDefaults
    from engine.models.catalog import ModelSource
    from engine.models.defaults import ModelDefaults
    from engine.models.entry import ModelEntry


class ModelLibrary:
    """An ``engine.settings.ModelShelf``: the catalogue, with what is set for each model."""

    def __init__(self, models_dir: Path, defaults: Sequence[NamedDefaults]) -> None:
        """Looks at nothing yet.

        Args:
            models_dir: The folder that holds converted models.
            defaults: What is set for single models.
        """
        self._models_dir = models_dir
        self._defaults = defaults

    def check(self, reference: str) -> str:
        """The id of a model that could be loaded, as far as a glance tells."""
        from engine.models.places import show_model

        entry = show_model(reference, self._models_dir, device_room())
        if entry.refusal:
            raise ModelLoadError(f"{reference!r} cannot be loaded: {entry.refusal}")
        if entry.fits is False:
            raise ModelLoadError(
                f"{reference!r} does not fit this machine's memory: its weights alone take "
                f"{size_text(entry.loaded_bytes)}"
            )
        return entry.model_id

    def find(self, reference: str, progress: Progress) -> ModelSource:
        """Finds a model, making it first if need be."""
        from engine.models.catalog import find_model

        source = find_model(reference, self._models_dir, progress)
        defaults = defaults_of(self._defaults, reference, source.model_id)
        return replace(source, defaults=defaults)

    def defaults(self, reference: str) -> ModelDefaults:
        """What is set for a model."""
        return defaults_of(self._defaults, reference)

    def entries(self) -> list[ModelEntry]:
        """Every model there is."""
        from engine.models.places import list_models

        return list_models(self._models_dir, device_room())

    def fingerprint(self, reference: str) -> str | None:
        """The fingerprint of a model, where it is known without reading its weights."""
        from engine.models.catalog import known_fingerprint

        return known_fingerprint(reference, self._models_dir)
