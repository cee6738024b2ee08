"""The active model and the device it runs on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """The active model.

    Attributes:
        model_id: Its name here.
        path: Where it lies.
        architecture: ``model_type`` of its config.
        num_parameters: Parameter count.
        weight_bytes: Bytes of its weights in memory.
        max_context_tokens: Context limit in tokens.
        kv_bytes_per_token: Bytes of KV cache per token over all layers.
        dtype: Type of its weights and KV, e.g. ``float32``.
        batching: ``ragged``, or ``single`` where the self-test refused batching.
        load_s: Seconds to load and self-test.
        kv_format: How keys and values of full attention are kept: ``lossless``, or bits and group
            size as in ``4 bit, group 64``.
        kv_perplexity_change: How much higher that makes the perplexity, as a share of the lossless
            one; None where it was not measured.
    """

    model_id: str
    path: str = ""
    architecture: str = ""
    num_parameters: int = 0
    weight_bytes: int = 0
    max_context_tokens: int = 0
    kv_bytes_per_token: int = 0
    dtype: str = ""
    batching: str = "ragged"
    load_s: float = 0.0
    kv_format: str = "lossless"
    kv_perplexity_change: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """The device and what it has left.

    Attributes:
        name: ``metal``, ``cuda`` or ``cpu``.
        description: Chip or processor name.
        fast_paths: What was switched on, in words.
        fallbacks: What could not be switched on and why, in words.
        memory_used_bytes: Footprint of this process.
        memory_active_bytes: Bytes of live mlx arrays.
        memory_limit_bytes: What the process may use.
    """

    name: str = "cpu"
    description: str = ""
    fast_paths: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    memory_used_bytes: int = 0
    memory_active_bytes: int = 0
    memory_limit_bytes: int = 0
