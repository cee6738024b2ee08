"""What one layer keeps of each kind, read from a model's config: one extractor per kind."""

from __future__ import annotations

from collections.abc import Callable

from engine.cache.layers.config import Config, first_of
from engine.cache.spec import LayerGroup, LayerKind

STATE_ELEMENT_BYTES = 4
"""States are summed up over all tokens, in 32 bit; what comes before them has the model's type."""


def full_attention(config: Config, element_bytes: int) -> LayerGroup:
    """Keys and values of every token, or one latent vector and a rotary key for both.

    Args:
        config: A flat config.
        element_bytes: Bytes of a number in the cache.

    Raises:
        KeyError: The config does not tell.
    """
    if "kv_lora_rank" in config:
        num_elements = int(config["kv_lora_rank"]) + int(config.get("qk_rope_head_dim", 0))
    else:
        num_elements = _row_elements(config, "global_")
    return LayerGroup(
        kind=LayerKind.FULL, num_layers=1, bytes_per_token=num_elements * element_bytes
    )


def sliding_window(config: Config, element_bytes: int) -> LayerGroup:
    """Keys and values of the last tokens.

    Args:
        config: A flat config.
        element_bytes: Bytes of a number in the cache.

    Raises:
        KeyError: The config does not tell.
    """
    window = first_of(config, "sliding_window", "sliding_window_size", "attention_window_size")
    return LayerGroup(
        kind=LayerKind.WINDOW,
        num_layers=1,
        bytes_per_token=_row_elements(config, "swa_") * element_bytes,
        window_tokens=int(window),
    )


def _row_elements(config: Config, prefix: str) -> int:
    """Numbers in a key and a value; entries with the prefix are for this kind of layer alone."""
    num_kv_heads = first_of(
        config,
        f"{prefix}num_key_value_heads",
        f"num_{prefix}key_value_heads",
        "num_key_value_heads",
        "num_attention_heads",
    )
    share = int(config["hidden_size"]) // int(config["num_attention_heads"])
    key_dim = first_of({"share": share, **config}, f"{prefix}head_dim", "head_dim", "share")
    value_dim = first_of(
        {"key_dim": key_dim, **config}, f"{prefix}v_head_dim", "v_head_dim", "key_dim"
    )
    return int(num_kv_heads) * (int(key_dim) + int(value_dim))


def state_space(config: Config, element_bytes: int) -> LayerGroup:
    """The state after the last token, and the last inputs of a convolution before it.

    Args:
        config: A flat config.
        element_bytes: Bytes of a number in the cache.

    Raises:
        KeyError: The config does not tell.
    """
    read = next((read for marker, read in _STATES.items() if marker in config), _mamba)
    num_inputs, num_states = read(config)
    state_bytes = num_inputs * element_bytes + num_states * STATE_ELEMENT_BYTES
    return LayerGroup(kind=LayerKind.STATE, num_layers=1, state_bytes=state_bytes)


def _gated_delta(config: Config) -> tuple[int, int]:
    num_value_heads = int(config["linear_num_value_heads"])
    key_dim, value_dim = int(config["linear_key_head_dim"]), int(config["linear_value_head_dim"])
    width = 2 * int(config["linear_num_key_heads"]) * key_dim + num_value_heads * value_dim
    num_inputs = (int(config["linear_conv_kernel_dim"]) - 1) * width
    return num_inputs, num_value_heads * key_dim * value_dim


def _delta_attention(config: Config) -> tuple[int, int]:
    linear = config["linear_attn_config"]
    num_heads, head_dim = int(linear["num_heads"]), int(linear["head_dim"])
    num_before = int(linear["short_conv_kernel_size"]) - 1
    return 3 * num_before * num_heads * head_dim, num_heads * head_dim * head_dim


def _short_convolution(config: Config) -> tuple[int, int]:
    return (int(config["conv_L_cache"]) - 1) * int(config["hidden_size"]), 0


def _gated_recurrence(config: Config) -> tuple[int, int]:
    width = int(config.get("lru_width", config["hidden_size"]))
    return (int(config["conv1d_width"]) - 1) * width, width


def _mamba(config: Config) -> tuple[int, int]:
    state_size = int(first_of(config, "mamba_d_state", "ssm_state_size", "state_size"))
    num_before = int(first_of(config, "mamba_d_conv", "conv_kernel")) - 1
    num_heads = next(
        (config[name] for name in _MAMBA_HEADS if name in config),
        None,
    )
    if num_heads is None:
        width = _mamba_width(config)
        return num_before * width, width * state_size
    head_dim = int(first_of(config, "mamba_d_head", "mamba_head_dim", "head_dim"))
    width = int(num_heads) * head_dim
    num_groups = int(first_of(config, "mamba_n_groups", "n_groups"))
    return num_before * (width + 2 * num_groups * state_size), width * state_size


_MAMBA_HEADS = ("mamba_n_heads", "mamba_num_heads", "num_heads")


def _mamba_width(config: Config) -> int:
    if "mamba_expand" in config:
        return int(config["mamba_expand"]) * int(config["hidden_size"])
    return int(config["intermediate_size"])


_STATES: dict[str, Callable[[Config], tuple[int, int]]] = {
    "linear_num_value_heads": _gated_delta,
    "linear_attn_config": _delta_attention,
    "conv_L_cache": _short_convolution,
    "conv1d_width": _gated_recurrence,
}
"""Inputs and states of a layer, by the entry that tells which it is."""

EXTRACTORS: dict[LayerKind, Callable[[Config, int], LayerGroup]] = {
    LayerKind.FULL: full_attention,
    LayerKind.WINDOW: sliding_window,
    LayerKind.STATE: state_space,
}
