"""Where models lie on this machine, and which are there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelNotFoundError
from engine.models.bundled import BUNDLED_MODEL_ID, INSTALL_HINT, bundled_folder, find_gguf
from engine.models.entry import ModelEntry, Room, read_entry

BUNDLED = "bundled"
LMSTUDIO_PREFIX = "lmstudio:"
MAX_SUGGESTIONS = 8
_HUB_FOLDER = re.compile(r"models--([A-Za-z0-9][\w.-]*?)(?:--([A-Za-z0-9][\w.-]*))?")
_REVISION = re.compile(r"[0-9a-f]{6,64}")
_SHORT_REVISION = 12
_MAX_REF_BYTES = 128


@dataclass(frozen=True, slots=True)
class Place:
    """A model that was found.

    Attributes:
        model_id: What ``--model`` takes.
        origin: The kind of place.
        folder: The model's folder.
        root: Where links of it must stay.
    """

    model_id: str
    origin: str
    folder: Path
    root: Path


def find_places(models_dir: Path, environ: Mapping[str, str] = os.environ) -> list[Place]:
    """Models of Stoker's own folder, the Hugging Face cache and LM Studio, in this order.

    Only lists folders; the bundled model is not among them.

    Args:
        models_dir: The folder that holds converted models.
        environ: Environment variables; they may move the Hugging Face cache.
    """
    found = [*_own(models_dir), *_hub(hub_cache(environ))]
    home = Path(environ.get("HOME") or Path.home())
    for folder in (home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"):
        found.extend(_lmstudio(folder))
    return list({place.model_id: place for place in reversed(found)}.values())[::-1]


def list_models(
    models_dir: Path, room: Room, environ: Mapping[str, str] = os.environ
) -> list[ModelEntry]:
    """The catalogue: every model on this machine. Reads headers, runs nothing.

    Args:
        models_dir: The folder that holds converted models.
        room: What the device has to offer.
        environ: Environment variables.
    """
    return [
        _bundled_entry(models_dir, room),
        *(
            read_entry(place.model_id, place.origin, place.folder, place.root, room)
            for place in find_places(models_dir, environ)
        ),
    ]


def show_model(
    reference: str, models_dir: Path, room: Room, environ: Mapping[str, str] = os.environ
) -> ModelEntry:
    """One model of the catalogue, or a folder by its path.

    Args:
        reference: Its id, or a path.
        models_dir: The folder that holds converted models.
        room: What the device has to offer.
        environ: Environment variables.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    if reference == BUNDLED:
        return _bundled_entry(models_dir, room)
    folder = Path(reference).expanduser()
    if (folder / "config.json").is_file():
        return read_entry(reference, "path", folder.resolve(), None, room)
    place = find_place(reference, models_dir, environ)
    return read_entry(place.model_id, place.origin, place.folder, place.root, room)


def find_place(model_id: str, models_dir: Path, environ: Mapping[str, str] = os.environ) -> Place:
    """The model of an id.

    Args:
        model_id: As ``find_places`` gives it.
        models_dir: The folder that holds converted models.
        environ: Environment variables.

    Raises:
        ModelNotFoundError: There is none; the error names some that are.
    """
    places = find_places(models_dir, environ)
    for place in places:
        if place.model_id == model_id:
            return place
    names = [BUNDLED, *(place.model_id for place in places)]
    more = ["and more: `stoker models list`"] if len(names) > MAX_SUGGESTIONS else []
    raise ModelNotFoundError(
        model_id, (*names[:MAX_SUGGESTIONS], *more, "the path of a model folder")
    )


def _bundled_entry(models_dir: Path, room: Room) -> ModelEntry:
    folder = bundled_folder(models_dir)
    if folder.is_dir():
        return read_entry(BUNDLED, BUNDLED, folder, models_dir.resolve(), room)
    refusal = "" if find_gguf() else f"it is not installed: {INSTALL_HINT}"
    return ModelEntry(model_id=BUNDLED, origin=BUNDLED, path=str(folder), refusal=refusal)


def _folders(parent: Path) -> list[Path]:
    """Folders in a folder, in order, without hidden ones; links to folders too."""
    try:
        with os.scandir(parent) as items:
            names = [item.name for item in items if item.name[:1] != "." and item.is_dir()]
    except OSError:
        return []
    return [parent / name for name in sorted(names)]


def _own(models_dir: Path) -> Iterator[Place]:
    for folder in _folders(models_dir):
        if folder.name != BUNDLED_MODEL_ID and (folder / "config.json").exists():
            yield Place(folder.name, "stoker", folder, models_dir.resolve())


def hub_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """The Hugging Face cache; it need not exist.

    Args:
        environ: Environment variables; they may move it.
    """
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "hub"
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface" / "hub"


def _hub(cache: Path) -> Iterator[Place]:
    """Snapshots: that of ``main`` under the bare name, others with their revision."""
    for repository in _folders(cache):
        named = _HUB_FOLDER.fullmatch(repository.name)
        if named is None:
            continue
        name = "/".join(part for part in named.groups() if part)
        snapshots = _folders(repository / "snapshots")
        main = _main_revision(repository)
        if len(snapshots) == 1 and main is None:
            main = snapshots[0].name
        for snapshot in snapshots:
            suffix = "" if snapshot.name == main else f"@{snapshot.name[:_SHORT_REVISION]}"
            yield Place(f"{name}{suffix}", "huggingface", snapshot, repository.resolve())


def _main_revision(repository: Path) -> str | None:
    path = repository / "refs" / "main"
    if not path.is_file() or path.is_symlink():
        return None
    try:
        with path.open("rb") as file:
            revision = file.read(_MAX_REF_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return None
    return revision if _REVISION.fullmatch(revision) else None


def _lmstudio(models: Path) -> Iterator[Place]:
    for publisher in _folders(models):
        for folder in _folders(publisher):
            if (folder / "config.json").exists():
                model_id = f"{LMSTUDIO_PREFIX}{publisher.name}/{folder.name}"
                yield Place(model_id, "lmstudio", folder, models.resolve())
