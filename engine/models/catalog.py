"""Finds a model by what the settings call it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ModelLoadError, ModelNotFoundError
from engine.models.bundled import BUNDLED_MODEL_ID, bundled_folder, ensure
from engine.models.defaults import NO_DEFAULTS, ModelDefaults
from engine.models.folder import Manifest, hash_file, write_whole
from engine.models.places import BUNDLED, find_place

_STAMPS_FOLDER = ".fingerprints"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model on this machine.

    Attributes:
        model_id: Its name here.
        path: A folder that ``mlx_lm`` can load.
        fingerprint: Hex digest over config, tokenizer and weights: two models with the same one
            compute the same KV cache from the same text.
        defaults: What is set for this model.
    """

    model_id: str
    path: Path
    fingerprint: str
    defaults: ModelDefaults = NO_DEFAULTS


def find_model(
    reference: str, models_dir: Path, progress: Callable[[float, str], None]
) -> ModelSource:
    """Finds a model, preparing it first where needed. Never downloads.

    Args:
        reference: ``bundled``, the path of a folder with ``config.json``, or an id of the
            catalogue.
        models_dir: The folder that holds converted models.
        progress: Told the share that is done (0-1) and what is being done; may raise to cancel.

    Raises:
        ModelNotFoundError: There is no such model.
        ModelLoadError: It is not a model, or cannot be prepared; the message says why.
    """
    if reference == BUNDLED:
        folder = ensure(models_dir, progress)
        stamps = Manifest.read(folder).files
        hashes = {name: stamp.sha256 for name, stamp in stamps.items() if _counts(name)}
        return ModelSource(model_id=BUNDLED_MODEL_ID, path=folder, fingerprint=_fingerprint(hashes))
    model_id, folder = _locate(reference, models_dir)
    _check_folder(folder)
    try:
        hashes = _hash_files(folder, models_dir / _STAMPS_FOLDER, progress)
    except OSError as error:
        raise ModelLoadError(f"cannot read the model in {folder}: {error}") from error
    return ModelSource(model_id=model_id, path=folder, fingerprint=_fingerprint(hashes))


def known_fingerprint(reference: str, models_dir: Path) -> str | None:
    """The fingerprint that ``find_model`` gave last time, if the files have not changed since.

    Reads no weights and prepares nothing.

    Args:
        reference: As for ``find_model``.
        models_dir: The folder that holds converted models.
    """
    try:
        if reference == BUNDLED:
            stamps = Manifest.read(bundled_folder(models_dir)).files
            hashes = {name: stamp.sha256 for name, stamp in stamps.items() if _counts(name)}
            return _fingerprint(hashes)
        return _remembered_fingerprint(_locate(reference, models_dir)[1], models_dir)
    except (OSError, ModelLoadError, ModelNotFoundError):
        return None


def _remembered_fingerprint(folder: Path, models_dir: Path) -> str | None:
    remembered = _read_stamps(_stamps_path(folder, models_dir / _STAMPS_FOLDER))
    names = {path.name for path in folder.iterdir() if _counts(path.name)}
    if not names or names != set(remembered):
        return None
    for name, stamp in remembered.items():
        status = (folder / name).stat()
        if (status.st_size, status.st_mtime_ns) != (stamp.get("size_bytes"), stamp.get("mtime_ns")):
            return None
    return _fingerprint({name: str(stamp["sha256"]) for name, stamp in remembered.items()})


def _stamps_path(folder: Path, stamps_dir: Path) -> Path:
    return stamps_dir / f"{hashlib.sha256(bytes(folder)).hexdigest()}.json"


def _locate(reference: str, models_dir: Path) -> tuple[str, Path]:
    """A model's name and folder; a path comes before an id of the same spelling."""
    folder = Path(reference).expanduser().resolve()
    if folder.is_dir():
        return folder.name, folder
    place = find_place(reference, models_dir)
    return place.model_id, place.folder.resolve()


def _check_folder(folder: Path) -> None:
    for pattern in ("config.json", "tokenizer.json", "model*.safetensors"):
        if not any(folder.glob(pattern)):
            raise ModelLoadError(f"{folder} is not a model folder: it has no {pattern}")


def _counts(name: str) -> bool:
    """Whether a file decides what the KV cache of a text is."""
    return name in {"config.json", "tokenizer.json"} or name.endswith(".safetensors")


def _fingerprint(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _hash_files(
    folder: Path, stamps_dir: Path, progress: Callable[[float, str], None]
) -> dict[str, str]:
    """Checksums by file name. A file that has not changed since last time is not read again.

    What is remembered lies beside the converted models, for the folder may be somebody else's.
    """
    remembered_path = _stamps_path(folder, stamps_dir)
    remembered = _read_stamps(remembered_path)
    paths = sorted(path for path in folder.iterdir() if _counts(path.name))
    stamps: dict[str, dict[str, Any]] = {}
    for index, path in enumerate(paths):
        progress(index / len(paths), f"fingerprinting {path.name}")
        status = path.stat()
        stamp = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        known = remembered.get(path.name, {})
        is_unchanged = all(known.get(key) == value for key, value in stamp.items())
        digest = known.get("sha256") if is_unchanged else None
        stamps[path.name] = {**stamp, "sha256": digest or hash_file(path)}
    if stamps != remembered:
        stamps_dir.mkdir(parents=True, exist_ok=True)
        write_whole(remembered_path, json.dumps(stamps, indent=1) + "\n")
    return {name: stamp["sha256"] for name, stamp in stamps.items()}


def _read_stamps(path: Path) -> dict[str, dict[str, Any]]:
    try:
        stamps = json.loads(path.read_text("utf-8"))
        return {name: dict(stamp) for name, stamp in stamps.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # nothing is lost: the files are read again
