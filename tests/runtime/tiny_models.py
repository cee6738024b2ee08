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
SPLIT_ATTENTION = ("gemma2", "deepseek_v3")
"""Those whose attention has to run sequence by sequence."""

ARCHITECTURES = tuple(name for name in CONFIGS if name not in SPLIT_ATTENTION)


WINDOWED = ("gemma3_text", "gpt_oss")
"""Those whose attention slides in some layers, and whose windows can be set."""

NEED_CHECKPOINTS = (*WINDOWED, "qwen3_next", "mamba2", "mamba", "recurrent_gemma", "falcon_h1")
"""Those that can be resumed only where a checkpoint was made."""


def make_tiny_model(architecture: str, **changes: Any) -> Any:
    """A model of that ``model_type``, in float32, the same weights each time.

    Args:
        architecture: Its ``model_type``.
        **changes: Entries of its config to set otherwise.
    """
    mx.random.seed(7)
    module = importlib.import_module(f"mlx_lm.models.{architecture}")
    model = module.Model(module.ModelArgs.from_dict({**CONFIGS[architecture], **changes}))
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
