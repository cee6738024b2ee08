"""Writes a model anew with other weights: fewer bits, or another type of numbers."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.convert import mixed_quant_predicate_builder
from mlx_lm.utils import load_model, quantize_model

from engine.errors import ModelLoadError
from engine.models.recipe import Recipe
from engine.models.weight_files import INDEX_NAME
from engine.runtime.loader import Progress

MAX_SHARD_BYTES = 1 << 30
MIN_SHARD_BYTES = 32 << 20
_SHARDS = 16
"""A small model is written in so many parts that what is being written is small beside it."""
_TEXT_SUFFIXES = (".json", ".jinja", ".txt", ".model")
_NOT_COPIED = ("config.json", INDEX_NAME)
_OWN_FILES = "stoker-"


def convert(source: Path, target: Path, recipe: Recipe, progress: Progress) -> None:
    """Quantises a model's weights into another folder. Runs no code of the source's folder.

    Args:
        source: Folder of a model that mlx-lm has a class for, not quantised.
        target: An empty folder.
        recipe: How weights are to be kept.
        progress: Told how far it is; may raise to give up.

    Raises:
        ModelLoadError: The source cannot be read, or it cannot be made what is asked for.
        OSError: The disk refuses.
    """
    progress(0.0, "reading the model")
    try:
        model, config = load_model(source, lazy=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelLoadError(f"cannot read the model in {source}: {error}") from error
    if "quantization" in config or "quantization_config" in config:
        raise ModelLoadError(
            "its weights are quantised already; convert what it was made from instead"
        )
    try:
        predicate = (
            mixed_quant_predicate_builder(recipe.mixed, model, recipe.group_size)
            if recipe.mixed
            else None
        )
        # It prints what it has done, and standard output is the command's.
        with contextlib.redirect_stdout(io.StringIO()):
            model, config = quantize_model(
                model, config, recipe.group_size, recipe.num_bits, quant_predicate=predicate
            )
    except ValueError as error:
        raise ModelLoadError(f"it cannot be made {recipe.words}: {error}") from error
    if not any(name.endswith(".scales") for name, _ in tree_flatten(model.parameters())):
        raise ModelLoadError(
            f"no layer is a multiple of {recipe.group_size} wide; choose a smaller group size"
        )
    _write_weights(model, target, progress)
    _copy_texts(source, target)
    config.pop("_name_or_path", None)
    (target / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def _write_weights(model: Any, target: Path, progress: Progress) -> None:
    """Writes the weights part by part; what is written is let go before the next part is made."""
    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    total = sum(array.nbytes for array in weights.values())
    # From here on the model holds nothing: each array goes with its part.
    model.update(tree_map(lambda _: mx.array([]), model.parameters()))
    shard_bytes = min(MAX_SHARD_BYTES, max(MIN_SHARD_BYTES, total // _SHARDS))
    shards = list(_shards({name: array.nbytes for name, array in weights.items()}, shard_bytes))
    places: dict[str, str] = {}
    num_done = 0
    for number, names in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        part = {each: weights.pop(each) for each in names}
        num_done += sum(array.nbytes for array in part.values())
        try:
            mx.save_safetensors(str(target / name), part, metadata={"format": "mlx"})
        except RuntimeError as error:
            # mlx does not tell why; what is too short is found out afterwards as well.
            raise OSError(f"{name} cannot be written: {error}") from error
        places.update(dict.fromkeys(names, name))
        del part
        gc.collect()
        mx.clear_cache()
        progress(num_done / total, f"writing {name}")
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (target / INDEX_NAME).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


def _shards(sizes: dict[str, int], shard_bytes: int) -> Iterator[list[str]]:
    """Names of weights in parts of about that length, in order."""
    part: list[str] = []
    length = 0
    for name, size in sizes.items():
        if part and length + size > shard_bytes:
            yield part
            part, length = [], 0
        part.append(name)
        length += size
    if part:
        yield part


def _copy_texts(source: Path, target: Path) -> None:
    """Copies tokenizer, template and the like; nothing that could be run."""
    for path in sorted(source.iterdir()):
        is_text = path.suffix in _TEXT_SUFFIXES and path.is_file()
        if is_text and path.name not in _NOT_COPIED and not path.name.startswith(_OWN_FILES):
            shutil.copyfile(path, target / path.name)
