"""Makes a model of Stoker's own from one that is here, judged before it is put in place."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ModelLoadError
from engine.models.bundled import BUNDLED_MODEL_ID
from engine.settings import Progress

if TYPE_CHECKING:
    from engine.models.entry import ModelEntry
    from engine.models.recipe import Recipe
    from engine.models.verdict import Verdict
    from engine.runtime.device import DeviceProfile

CONVERT_SHARE = 0.5
SPARE_BYTES = 64 << 20
"""What must stay free on the disk beside the new model."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeModel:
    """A model that was made.

    Attributes:
        model_id: What ``--model`` takes.
        folder: Where it lies.
        verdict: How it compares with what it was made from.
        size_bytes: Length of its files.
    """

    model_id: str
    folder: Path
    verdict: Verdict
    size_bytes: int


class ModelMaker:
    """Converts models into Stoker's own folder: whole and judged, or not at all."""

    def __init__(self, models_dir: Path, cache_dir: Path, text: str, progress: Progress) -> None:
        """Does nothing yet.

        Args:
            models_dir: Stoker's own folder of models.
            cache_dir: Where things that can be made again are kept.
            text: What models are judged with.
            progress: Told how far it is; may raise to give up.
        """
        self._models_dir = models_dir
        self._cache_dir = cache_dir
        self._text = text
        self._progress = progress

    def convert(self, reference: str, recipe: Recipe, name: str | None) -> MadeModel:
        """Makes a model with fewer bits.

        Args:
            reference: A model of the catalogue, or a folder.
            recipe: How its weights are to be kept.
            name: What it is to be called; None names it after its source.

        Raises:
            ModelNotFoundError: There is no such model.
            ModelLoadError: It cannot be made; the message says why. Nothing is left of it.
        """
        from engine.runtime import device

        # Before anything imports mlx.
        plan = device.prepare(self._cache_dir)
        from engine.models.catalog import find_model
        from engine.models.entry import Room
        from engine.models.places import show_model

        entry = show_model(reference, self._models_dir, Room(0, widens=False))
        if entry.refusal:
            raise ModelLoadError(f"{reference!r} cannot be converted: {entry.refusal}")
        target = self._target(entry, recipe, name)
        source = find_model(
            reference, self._models_dir, lambda share, text: self._progress(share * 0.1, text)
        )
        self._check_disk(entry, source.path, recipe)
        try:
            return self._make(source.path, source.model_id, target, recipe, device.detect(plan))
        except OSError as error:
            raise ModelLoadError(
                f"cannot write {target.name} into {self._models_dir}: {error.strerror or error}"
            ) from error

    def _target(self, entry: ModelEntry, recipe: Recipe, name: str | None) -> Path:
        stem = BUNDLED_MODEL_ID if entry.origin == "bundled" else Path(entry.model_id).name
        chosen = name if name is not None else f"{stem}-{recipe.words}"
        if not _NAME.fullmatch(chosen) or chosen == BUNDLED_MODEL_ID:
            raise ModelLoadError(
                f"{chosen!r} cannot be a model's name: letters, digits, dots, dashes and "
                "underscores; choose one with --name"
            )
        target = self._models_dir / chosen
        if target.exists() or target.is_symlink():
            raise ModelLoadError(
                f"there is a model {chosen!r} already: choose another --name, or remove it with "
                f"`stoker models rm {chosen}`"
            )
        return target

    def _check_disk(self, entry: ModelEntry, source: Path, recipe: Recipe) -> None:
        from engine.models.recipe import output_bytes
        from engine.models.weight_files import read_weight_files
        from widgets.format import short_bytes

        size_bytes = entry.size_bytes or read_weight_files(source, None).size_bytes
        needed = output_bytes(size_bytes, entry.num_bits, recipe) + SPARE_BYTES
        self._models_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._models_dir).free
        if free < needed:
            raise ModelLoadError(
                f"it takes about {short_bytes(needed)} in {self._models_dir}, where "
                f"{short_bytes(free)} are free; make room, or move STOKER_HOME"
            )

    def _make(
        self, source: Path, source_id: str, target: Path, recipe: Recipe, profile: DeviceProfile
    ) -> MadeModel:
        from engine.models.folder import locked, put_in_place, scratch_folder
        from engine.models.verdict import write_verdict
        from engine.models.weight_files import read_weight_files
        from engine.runtime.conversion import convert
        from engine.runtime.judge import judge

        lock = self._models_dir / f".{target.name}.lock"
        with (
            locked(lock, lambda: self._progress(0.1, "another process makes this model")),
            scratch_folder(target) as scratch,
        ):
            if target.exists():
                raise ModelLoadError(f"another process has made {target.name!r} meanwhile")
            convert(
                source, scratch, recipe, lambda share, text: self._progress(0.1 + share * 0.4, text)
            )
            # A disk that was full in the middle shows here at the latest.
            size_bytes = read_weight_files(scratch, None).size_bytes
            verdict = judge(
                source,
                scratch,
                profile,
                self._text,
                lambda share, text: self._progress(CONVERT_SHARE + share / 2, text),
                source_name=source_id,
                num_bits=recipe.num_bits,
            )
            write_verdict(scratch, verdict)
            put_in_place(scratch, target)
        lock.unlink(missing_ok=True)
        return MadeModel(
            model_id=target.name, folder=target, verdict=verdict, size_bytes=size_bytes
        )
