"""A folder of models to change between: the bundled one, and tiny ones with its tokenizer."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from engine.models.bundled import bundled_folder

TINY_IDS = ("alpha", "beta")
_TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
_SMALLER = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def make_tiny(bundled: Path, folder: Path, seed: int = 3, **changes: Any) -> None:
    """Writes a model with random weights, the bundled one's tokenizer and its template.

    Args:
        bundled: The bundled model.
        folder: Where to.
        seed: Of the weights.
        **changes: Entries of its config to set otherwise.
    """
    folder.mkdir(parents=True)
    for name in _TEXT_FILES:
        shutil.copy(bundled / name, folder / name)
    config = {**json.loads((bundled / "config.json").read_text()), **_SMALLER, **changes}
    mx.random.seed(seed)
    module = importlib.import_module("mlx_lm.models.llama")
    model = module.Model(module.ModelArgs.from_dict(config))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))


def make_shelf(models_dir: Path, bundled_models_dir: Path) -> Path:
    """A models folder of one's own, with the bundled model and two tiny ones.

    Returns:
        The folder.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    bundled = bundled_folder(bundled_models_dir)
    shutil.copytree(bundled, models_dir / bundled.name, copy_function=_link_or_copy)
    for seed, name in enumerate(TINY_IDS):
        make_tiny(bundled, models_dir / name, seed)
    return models_dir


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def share_kernels(bundled_models_dir: Path, cache_dir: Path) -> Path:
    """Takes over the machine's kernels where they have been built; that takes seconds.

    Returns:
        The cache folder.
    """
    cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for kernels in (bundled_models_dir / "cache").glob("kernels-*.so"):
        shutil.copy2(kernels, cache_dir / kernels.name)
    return cache_dir
