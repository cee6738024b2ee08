"""Small models with random weights, one per architecture family, and the machine's kernels."""

from __future__ import annotations

import importlib
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx

from engine.runtime.blas import Kernels, KernelsUnavailableError, load_kernels

CONFIGS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "tiny_model_configs.json").read_text()
)
ARCHITECTURES = tuple(CONFIGS)


def make_tiny_model(architecture: str) -> Any:
    """A model of that ``model_type``, in float32, the same weights each time."""
    mx.random.seed(7)
    module = importlib.import_module(f"mlx_lm.models.{architecture}")
    model = module.Model(module.ModelArgs.from_dict(CONFIGS[architecture]))
    model.apply(lambda array: array.astype(mx.float32))
    mx.eval(model.parameters())
    return model


@cache
def kernels_or_none() -> Kernels | None:
    """The native kernels, built once per test run; None where there is no compiler."""
    folder = Path(tempfile.mkdtemp(prefix="stoker-kernels-"))
    try:
        return load_kernels(folder, num_threads=2)
    except KernelsUnavailableError:
        return None
