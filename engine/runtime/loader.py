"""Loading a model folder into memory, ready to run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cache.quantisation import KVQuantisation
from engine.errors import ModelLoadError
from engine.runtime.device import DeviceProfile

if TYPE_CHECKING:
    from engine.runtime.quantised import QuantisedOps
    from engine.runtime.selftest_record import SelfTestRecords

SELF_TEST = "self-test"
"""What the progress of a load says while the model is tested."""

Progress = Callable[[float, str], None]
"""Told the share that is done, 0-1, and what is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        runner: Runs it.
        quantisation: How it keeps keys and values of full layers; None for lossless.
        vocabulary_size: Token ids are below it.
        num_parameters: Parameter count.
        weight_bytes: Bytes of its weights in memory.
        architecture: ``model_type`` of its config.
        dtype: Type of its weights.
        batches: Whether it may decode several sequences in one step.
        restores: Whether its cache may be cut into blocks and restored.
        fast_paths: What the device's profile switched on for it.
        notes: What it cannot do and why, in words; each is worth an event.
        load_s: Seconds that loading and the self-test took.
        check_s: Seconds that the self-test took.
    """

    runner: Any
    quantisation: KVQuantisation | None
    vocabulary_size: int
    num_parameters: int
    weight_bytes: int
    architecture: str
    dtype: str
    batches: bool
    restores: bool
    fast_paths: tuple[str, ...]
    notes: tuple[str, ...]
    load_s: float
    check_s: float


def load(
    path: Path,
    profile: DeviceProfile,
    progress: Progress,
    quantisation: KVQuantisation | None = None,
    records: SelfTestRecords | None = None,
) -> LoadedModel:
    """Loads a model folder and tests it.

    Args:
        path: Folder with ``config.json``, weights and tokenizer.
        profile: The device to run on.
        progress: Told how far it is.
        quantisation: How keys and values of full layers are to be kept; None for lossless.
        records: Where a self-test that was passed before is found; None tests in any case.

    Raises:
        KVFormatError: The group size does not divide the heads' width, but another does.
        ModelLoadError: The folder is not a model that can be run here.
    """
    began_s = time.monotonic()
    progress(0.05, "importing mlx-lm")
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    from engine.runtime import cpu, kv, ragged
    from engine.runtime.fitting import fit, fit_once

    let_go()
    progress(0.4, "reading weights")
    try:
        model, config = load_model(path, lazy=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelLoadError(f"cannot load the model in {path}: {error}") from error
    if profile.name == "cpu":
        _use_float32(model, mx)
    mx.eval(model.parameters())
    fast_paths, notes = cpu.install(model, profile) if profile.name == "cpu" else ((), ())
    ragged.install()
    progress(0.8, SELF_TEST)
    read_s = time.monotonic()
    difference = kv.config_difference(model, config)
    if difference:
        notes = (*notes, f"cache: {difference}")
    vocabulary_size = int(config.get("vocab_size", 64))
    parameters = [array for _, array in tree_flatten(model.parameters())]
    dtype = _dtype_name(parameters)
    how = (profile.name, profile.description, dtype, *profile.fallbacks, *fast_paths)
    fit_to = (model, quantisation, lambda: quantised_ops(profile), vocabulary_size)
    fitted = fit_once(*fit_to, records, how) if records else fit(*fit_to)
    result = fitted.result
    fitted.runner.batches = result.batches
    checked_s = time.monotonic()
    mx.clear_cache()
    progress(1.0, "ready")
    return LoadedModel(
        runner=fitted.runner,
        quantisation=fitted.quantisation,
        vocabulary_size=vocabulary_size,
        num_parameters=sum(array.size for array in parameters),
        weight_bytes=sum(array.nbytes for array in parameters),
        architecture=str(config.get("model_type", "")),
        dtype=dtype,
        batches=result.batches,
        restores=result.restores,
        fast_paths=tuple(fast_paths),
        notes=(*notes, *result.reasons),
        load_s=time.monotonic() - began_s,
        check_s=checked_s - read_s,
    )


def let_go() -> None:
    """Puts back what the last load replaced in mlx-lm's classes: it holds that model's weights."""
    from engine.runtime import cpu, split_attention

    cpu.uninstall()
    split_attention.uninstall()


def quantised_ops(profile: DeviceProfile) -> QuantisedOps:
    """What a device does with quantised keys and values."""
    from engine.runtime import cpu
    from engine.runtime.quantised_host import HostQuantisedOps
    from engine.runtime.quantised_mlx import MlxQuantisedOps

    return HostQuantisedOps(cpu.host_ops(profile)) if profile.name == "cpu" else MlxQuantisedOps()


def _use_float32(model: Any, mx: Any) -> None:
    """16-bit arithmetic is emulated on processors without it, several times slower than 32-bit."""
    model.apply(lambda array: array.astype(mx.float32) if _is_half(array, mx) else array)


def _is_half(array: Any, mx: Any) -> bool:
    return array.dtype in (mx.float16, mx.bfloat16)


def _dtype_name(parameters: list[Any]) -> str:
    """The type most of the weights' bytes have."""
    sizes: dict[str, int] = {}
    for array in parameters:
        name = str(array.dtype).removeprefix("mlx.core.")
        sizes[name] = sizes.get(name, 0) + array.nbytes
    return max(sizes, key=lambda name: sizes[name], default="")
