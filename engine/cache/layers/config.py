"""A model's config as this room reads it: one flat mapping, with what its family leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
"""A model's ``config.json``."""

_INNER_NAMES = ("text_config", "language_config", "llm_config")

_FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "cohere2": {"head_dim": 128, "sliding_window": 4096, "sliding_window_pattern": 4},
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256, "sliding_window": 4096, "sliding_window_pattern": 2},
    "gemma3": {"head_dim": 256, "sliding_window": 1024, "sliding_window_pattern": 6},
    "gemma3_text": {"head_dim": 256, "sliding_window": 512, "sliding_window_pattern": 6},
    "gemma4_text": {
        "head_dim": 256,
        "global_head_dim": 512,
        "sliding_window": 512,
        "sliding_window_pattern": 5,
    },
    "gpt_oss": {"head_dim": 64, "sliding_window": 128, "sliding_window_pattern": 2},
    "olmo3": {"sliding_window_pattern": 4},
    "olmo_hybrid": {"full_attention_interval": 4},
    "qwen2": {"use_sliding_window": False},
    "qwen2_moe": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
    "qwen3_5_text": {"full_attention_interval": 4},
    "qwen3_moe": {"use_sliding_window": False},
    "qwen3_next": {"full_attention_interval": 4},
}
"""What published configs of a family may leave out because its reference code has it as default."""


def flat_config(config: Config) -> Config:
    """The config of the text model, with its family's defaults and without empty entries.

    Args:
        config: A model's config; of a model that also sees or hears, the outer one.
    """
    inner: Config = next((config[name] for name in _INNER_NAMES if name in config), {})
    merged = {key: value for key, value in {**config, **inner}.items() if value is not None}
    return {**_FAMILY_DEFAULTS.get(str(merged.get("model_type", "")), {}), **merged}


def first_of(config: Config, *names: str) -> Any:
    """The first entry that the config has.

    Args:
        config: A flat config.
        *names: What families call the same thing.

    Raises:
        KeyError: It has none of them.
    """
    for name in names:
        if name in config:
            return config[name]
    raise KeyError(names[0])
