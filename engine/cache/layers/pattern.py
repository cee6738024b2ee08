"""Which layer of a model keeps what, read from its config."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice

from engine.cache.layers.config import Config, first_of
from engine.cache.spec import LayerKind

Kinds = tuple[LayerKind, ...]
"""What one layer keeps: nothing, one thing, or two where attention and states run side by side."""

_FULL: Kinds = (LayerKind.FULL,)
_WINDOW: Kinds = (LayerKind.WINDOW,)
_STATE: Kinds = (LayerKind.STATE,)

_KINDS_BY_NAME: dict[str, Kinds] = {
    "full_attention": _FULL,
    "attention": _FULL,
    "*": _FULL,
    "G": _FULL,
    "sliding_attention": _WINDOW,
    "L": _WINDOW,
    "linear_attention": _STATE,
    "mamba": _STATE,
    "mamba2": _STATE,
    "recurrent": _STATE,
    "conv": _STATE,
    "M": _STATE,
    "mlp": (),
    "moe": (),
    "-": (),
    "E": (),
}
"""What configs call their layers."""

_STATE_FAMILIES = ("mamba", "mamba2", "falcon_mamba", "rwkv7")


def layer_kinds(config: Config) -> list[Kinds]:
    """What each layer keeps, first layer first.

    Args:
        config: A flat config.

    Raises:
        KeyError: The config names a layer by a word unknown here, or does not say how many there
            are.
    """
    for marker, read in _READERS.items():
        if marker in config:
            kinds = read(config)
            # The last layers of some models read the rows of earlier ones.
            return kinds[: len(kinds) - int(config.get("num_kv_shared_layers", 0))]
    return _alike(config)


def _num_layers(config: Config) -> int:
    return int(first_of(config, "num_hidden_layers", "n_layer", "num_layers"))


def _named(marker: str) -> Callable[[Config], list[Kinds]]:
    """Reads a name for each layer; a shorter list is repeated."""

    def read(config: Config) -> list[Kinds]:
        names = dict(_KINDS_BY_NAME)
        if "attention_window_size" in config:
            names["attention"] = _WINDOW
        kinds = [names[name] for name in config[marker]]
        num_layers = int(config.get("num_hidden_layers", len(kinds)))
        return list(islice(cycle(kinds), num_layers))

    return read


def _every(marker: str, kinds: Kinds, others: Kinds) -> Callable[[Config], list[Kinds]]:
    """Reads a number n: each n-th layer is of one kind, the others of another."""

    def read(config: Config) -> list[Kinds]:
        interval = int(config[marker])
        return [
            kinds if (index + 1) % interval == 0 else others for index in range(_num_layers(config))
        ]

    return read


def _window_pattern(config: Config) -> list[Kinds]:
    """A word with a letter for each layer, or a number."""
    if isinstance(config["sliding_window_pattern"], str):
        return _named("sliding_window_pattern")(config)
    if "sliding_window" not in config:
        return [_FULL] * _num_layers(config)
    return _every("sliding_window_pattern", _FULL, _WINDOW)(config)


def _window_flags(config: Config) -> list[Kinds]:
    return [_WINDOW if flag else _FULL for flag in config["hybrid_layer_pattern"]]


def _attention_at(config: Config) -> list[Kinds]:
    indices = set(config["full_attn_idxs"])
    return [_FULL if index in indices else _STATE for index in range(_num_layers(config))]


def _attention_period(config: Config) -> list[Kinds]:
    period, offset = int(config["attn_layer_period"]), int(config["attn_layer_offset"])
    return [_FULL if index % period == offset else _STATE for index in range(_num_layers(config))]


def _linear_attention(config: Config) -> list[Kinds]:
    # Layers are counted from 1 there.
    linear = {index - 1 for index in config["linear_attn_config"]["kda_layers"]}
    return [_STATE if index in linear else _FULL for index in range(_num_layers(config))]


def _side_by_side(config: Config) -> list[Kinds]:
    return [_STATE + _FULL] * _num_layers(config)


_READERS: dict[str, Callable[[Config], list[Kinds]]] = {
    "layer_types": _named("layer_types"),
    "layers_block_type": _named("layers_block_type"),
    "hybrid_override_pattern": _named("hybrid_override_pattern"),
    "block_types": _named("block_types"),
    "_block_types": _named("_block_types"),
    "hybrid_layer_pattern": _window_flags,
    "full_attn_idxs": _attention_at,
    "attn_layer_period": _attention_period,
    "linear_attn_config": _linear_attention,
    "mamba_d_ssm": _side_by_side,
    "full_attention_interval": _every("full_attention_interval", _FULL, _STATE),
    "sliding_window_pattern": _window_pattern,
}
"""How to read a pattern, by the entry that tells it; the first that the config has counts."""


def _alike(config: Config) -> list[Kinds]:
    """Layers of a config that names no pattern."""
    num_layers = _num_layers(config)
    if config.get("model_type") in _STATE_FAMILIES:
        return [_STATE] * num_layers
    if "sliding_window" not in config or config.get("use_sliding_window") is False:
        return [_FULL] * num_layers
    num_full = min(num_layers, int(config.get("max_window_layers", 0)))
    return [_FULL] * num_full + [_WINDOW] * (num_layers - num_full)
