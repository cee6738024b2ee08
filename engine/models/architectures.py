"""Which architectures can be run, without importing what runs them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SIGN = "class ModelArgs"
"""What tells a model's module from the others in that package."""


def refusal(config: Mapping[str, Any]) -> str:
    """Why a model cannot be run here; empty where nothing speaks against it.

    Args:
        config: Its ``config.json``.
    """
    if config.get("model_file"):
        return "it brings code of its own (model_file in config.json), which is never run"
    name = config.get("model_type")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "config.json names no model_type"
    if is_known(name):
        return ""
    own_code = " without code of its own, which is never run" if "auto_map" in config else ""
    return f"architecture {name!r} is not supported{own_code}"


@lru_cache(maxsize=256)
def is_known(model_type: str) -> bool:
    """Whether mlx-lm has a class for a ``model_type`` of well-formed name."""
    return _has_module(model_type) or _has_module(_remapped(model_type))


def _has_module(name: str) -> bool:
    spec = importlib.util.find_spec("mlx_lm")
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location) / "models" / f"{name}.py"
        if path.is_file() and _SIGN in path.read_text("utf-8"):
            return True
    return False


def _remapped(model_type: str) -> str:
    # Seconds of imports, for names that mlx-lm has no module of.
    from mlx_lm.utils import MODEL_REMAPPING

    return str(MODEL_REMAPPING.get(model_type, model_type))
