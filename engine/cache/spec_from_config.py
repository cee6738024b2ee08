"""What a model's cache should look like, from its config alone."""

from __future__ import annotations

from engine.cache.layers.config import Config, flat_config
from engine.cache.layers.extractors import EXTRACTORS
from engine.cache.layers.pattern import layer_kinds
from engine.cache.spec import CacheSpec, LayerGroup, LayerKind, merged_groups

_KIND_NAMES = {
    LayerKind.FULL: "keep every token",
    LayerKind.WINDOW: "keep a window",
    LayerKind.STATE: "keep a state",
}


def spec_from_config(config: Config, element_bytes: int) -> CacheSpec | None:
    """Reads a model's config.

    Args:
        config: Its ``config.json``.
        element_bytes: Bytes of a number in the cache, as a rule 2, or 4 on the CPU profile.

    Returns:
        Its layers by kind, and what they cost, with an empty ``kv_format``: only a loaded model
        has one. None if the config is not understood here.
    """
    try:
        flat = flat_config(config)
        layers = [
            EXTRACTORS[kind](flat, element_bytes) for kinds in layer_kinds(flat) for kind in kinds
        ]
    except (KeyError, TypeError, ValueError, ArithmeticError):
        # Configs come from anywhere and may say anything; what is not understood is not a spec.
        return None
    return CacheSpec(groups=merged_groups(layers), kv_format="")


def spec_difference(expected: CacheSpec, measured: CacheSpec) -> str:
    """How a measured cache differs from what the config promises, in words; empty if it does not.

    Args:
        expected: From the config.
        measured: Of the loaded model.
    """
    if all(_agree(kind, expected, measured) for kind in LayerKind):
        return ""
    return f"the config describes {_in_words(expected)}; the cache has {_in_words(measured)}"


def _agree(kind: LayerKind, expected: CacheSpec, measured: CacheSpec) -> bool:
    ours, theirs = _totals(kind, expected), _totals(kind, measured)
    if kind is LayerKind.STATE:
        # The types of states are the model code's own affair, so bytes may be off by two.
        return ours[0] == theirs[0] and ours[3] <= 2 * theirs[3] and theirs[3] <= 2 * ours[3]
    return ours == theirs


def _totals(kind: LayerKind, spec: CacheSpec) -> tuple[int, int, int, int]:
    """Layers, bytes per token, rows in windows, and bytes of states of a kind."""
    groups = [group for group in spec.groups if group.kind is kind]
    return (
        sum(group.num_layers for group in groups),
        sum(group.bytes_per_token for group in groups),
        sum(group.window_tokens * group.num_layers for group in groups),
        sum(group.state_bytes for group in groups),
    )


def _in_words(spec: CacheSpec) -> str:
    return ", ".join(_group_in_words(group) for group in spec.groups)


def _group_in_words(group: LayerGroup) -> str:
    window = f" of {group.window_tokens}" if group.window_tokens else ""
    num_bytes = group.bytes_per_token or group.state_bytes
    unit = "B" if group.state_bytes else "B/token"
    return f"{group.num_layers} layers that {_KIND_NAMES[group.kind]}{window} ({num_bytes} {unit})"
