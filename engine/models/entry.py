"""One model of the catalogue, read from its folder without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.cache.layers.config import flat_config
from engine.cache.spec_from_config import spec_from_config
from engine.errors import ModelLoadError
from engine.models import architectures
from engine.models.plain_files import read_bounded, read_object
from engine.models.template_signs import reasoning_format, tool_format
from engine.models.verdict import read_verdict
from engine.models.weight_files import WeightFiles, read_weight_files

_TYPE_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
FIT_TOKENS = 4096
"""Context that a model must have room for beside its weights to count as fitting."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the device has to offer.

    Attributes:
        device_bytes: Memory that may be used; 0 where it is not known.
        widens: Whether 16-bit weights are kept as float32.
    """

    device_bytes: int
    widens: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that is on this machine.

    Attributes:
        model_id: What ``--model`` takes.
        origin: ``bundled``, ``stoker``, ``huggingface``, ``lmstudio`` or ``path``.
        path: Its folder.
        architecture: ``model_type`` of its config.
        size_bytes: Length of its weight files.
        num_bits: Bits of a weight; 0 where its files do not tell.
        max_context_tokens: Its context limit; 0 where its config does not tell.
        cache_bytes_per_1k_tokens: KV cache of 1024 tokens on this device; None where its config is
            not understood. Rows beyond a window and states of fixed size are not in it.
        loaded_bytes: Its weights in memory, on this device.
        fits: Whether they and 4096 tokens fit this device's memory; None where it is not known.
        tool_format: How it writes tool calls, where its template tells.
        reasoning_format: How it marks reasoning, where its template tells.
        refusal: Why it cannot be loaded; empty if nothing speaks against it.
        verdict: What was found when it was judged, on one line; empty where it never was.
        warning: What it cannot do although it can be loaded, where that was tried.
    """

    model_id: str
    origin: str
    path: str
    architecture: str = ""
    size_bytes: int = 0
    num_bits: int = 0
    max_context_tokens: int = 0
    cache_bytes_per_1k_tokens: int | None = None
    loaded_bytes: int = 0
    fits: bool | None = None
    tool_format: str = ""
    reasoning_format: str = ""
    refusal: str = ""
    verdict: str = ""
    warning: str = ""


def read_entry(
    model_id: str, origin: str, folder: Path, root: Path | None, room: Room
) -> ModelEntry:
    """Reads config, template and weight headers of a model folder. Runs nothing of it.

    Args:
        model_id: What it is to be called.
        origin: Where it was found.
        folder: Its folder.
        root: Where its links must stay, itself resolved; None where they may lead anywhere.
        room: What the device has to offer.
    """
    path = str(folder)
    try:
        config = read_object(folder / "config.json", root)
    except FileNotFoundError:
        return ModelEntry(
            model_id=model_id, origin=origin, path=path, refusal="it has no config.json"
        )
    except (OSError, ModelLoadError) as error:
        return ModelEntry(model_id=model_id, origin=origin, path=path, refusal=_words(error))
    template = _template(folder, root)
    weights, refusal = _weights(folder, root)
    refusal = architectures.refusal(config) or refusal or _tokenizer_refusal(folder, root)
    cache_bytes = _cache_bytes_per_token(config, room)
    loaded_bytes = weights.loaded_bytes(as_float32=room.widens)
    return ModelEntry(
        model_id=model_id,
        origin=origin,
        path=path,
        architecture=_text(config.get("model_type")),
        size_bytes=weights.size_bytes,
        num_bits=_num_bits(config, weights),
        max_context_tokens=_context_tokens(config),
        cache_bytes_per_1k_tokens=None if cache_bytes is None else 1024 * cache_bytes,
        loaded_bytes=loaded_bytes,
        fits=_fits(loaded_bytes, cache_bytes, room),
        tool_format=tool_format(template),
        reasoning_format=reasoning_format(template),
        refusal=refusal,
        verdict=verdict.words if (verdict := read_verdict(folder)) else "",
    )


def _words(error: OSError | ModelLoadError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _weights(folder: Path, root: Path | None) -> tuple[WeightFiles, str]:
    try:
        return read_weight_files(folder, root), ""
    except (OSError, ModelLoadError) as error:
        return WeightFiles(0, {}), _words(error)


def _tokenizer_refusal(folder: Path, root: Path | None) -> str:
    target = (folder / "tokenizer.json").resolve()
    if not target.is_file():
        return "it has no tokenizer.json"
    if root is not None and not target.is_relative_to(root):
        return f"tokenizer.json is a link that leads out of {root}"
    return ""


def _template(folder: Path, root: Path | None) -> str:
    """The chat template as text; empty where there is none that can be read."""
    try:
        return read_bounded(folder / "chat_template.jinja", root).decode("utf-8", "replace")
    except (OSError, ModelLoadError):
        pass
    try:
        template = read_object(folder / "tokenizer_config.json", root).get("chat_template")
    except (OSError, ModelLoadError):
        return ""
    if isinstance(template, list):  # named templates; the tools' one tells most
        return "\n".join(_text(each.get("template")) for each in template if isinstance(each, dict))
    return _text(template)


def _num_bits(config: Mapping[str, Any], weights: WeightFiles) -> int:
    for name in ("quantization", "quantization_config"):
        fields = config.get(name)
        if isinstance(fields, dict) and isinstance(fields.get("bits"), int):
            return int(fields["bits"])
    return _TYPE_BITS.get(weights.main_type, 0)


def _context_tokens(config: Mapping[str, Any]) -> int:
    try:
        tokens = flat_config(config).get("max_position_embeddings", 0)
    except (TypeError, ValueError):
        return 0
    return tokens if isinstance(tokens, int) and tokens > 0 else 0


def _cache_bytes_per_token(config: Mapping[str, Any], room: Room) -> int | None:
    spec = spec_from_config(config, 4 if room.widens else 2)
    return None if spec is None else sum(group.bytes_per_token for group in spec.groups)


def _fits(loaded_bytes: int, cache_bytes: int | None, room: Room) -> bool | None:
    if not room.device_bytes or not loaded_bytes:
        return None
    return loaded_bytes + FIT_TOKENS * (cache_bytes or 0) <= room.device_bytes
