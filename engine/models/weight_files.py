"""What the weight files of a model folder hold, from their headers alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ModelLoadError
from engine.models.plain_files import open_plain, read_object

INDEX_NAME = "model.safetensors.index.json"
MAX_HEADER_BYTES = 32 * 2**20
_LENGTH_BYTES = 8
_HALF_TYPES = frozenset({"F16", "BF16"})


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The weights of a model on disk.

    Attributes:
        size_bytes: Length of the files.
        bytes_by_type: Bytes of tensors by safetensors' name of their type.
    """

    size_bytes: int
    bytes_by_type: Mapping[str, int]

    @property
    def main_type(self) -> str:
        """The type that most bytes have; empty without tensors."""
        return max(self.bytes_by_type, key=lambda name: self.bytes_by_type[name], default="")

    def loaded_bytes(self, *, as_float32: bool) -> int:
        """Bytes that the weights take in memory.

        Args:
            as_float32: Whether 16-bit numbers are widened, as on the CPU profile.
        """
        half = sum(self.bytes_by_type.get(name, 0) for name in _HALF_TYPES)
        return sum(self.bytes_by_type.values()) + (half if as_float32 else 0)


def read_weight_files(folder: Path, root: Path | None) -> WeightFiles:
    """Reads the headers of ``model*.safetensors``.

    Args:
        folder: The model's folder.
        root: Where links must stay; None where they may lead anywhere.

    Raises:
        ModelLoadError: A file is missing, cut off or damaged; the message names it.
        OSError: A file cannot be read.
    """
    names = {path.name for path in folder.glob("model*.safetensors")}
    missing = sorted(_indexed_names(folder, root) - names)
    if missing:
        raise ModelLoadError(f"{missing[0]} is missing ({len(missing)} weight files in all)")
    if not names:
        raise ModelLoadError("it has no model*.safetensors")
    sizes: Counter[str] = Counter()
    total = 0
    for name in sorted(names):
        total += _add_header(folder / name, root, sizes)
    return WeightFiles(total, dict(sizes))


def _indexed_names(folder: Path, root: Path | None) -> set[str]:
    try:
        places = read_object(folder / INDEX_NAME, root).get("weight_map")
    except FileNotFoundError:
        return set()
    return {str(name) for name in places.values()} if isinstance(places, dict) else set()


def _add_header(path: Path, root: Path | None, sizes: Counter[str]) -> int:
    """Adds the tensors of one file and returns its length."""
    try:
        file = open_plain(path, root)
    except FileNotFoundError:
        raise ModelLoadError(f"{path.name} is a link to nothing") from None
    with file:
        size_bytes = file.seek(0, 2)
        file.seek(0)
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not 0 < header_bytes <= min(MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES):
            raise ModelLoadError(f"{path.name} is damaged: its header is cut off")
        text = file.read(header_bytes)
    try:
        end = _add_tensors(json.loads(text), sizes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelLoadError(f"{path.name} is damaged: its header cannot be read") from error
    expected = _LENGTH_BYTES + header_bytes + end
    if size_bytes != expected:
        raise ModelLoadError(f"{path.name} has {size_bytes} bytes instead of {expected}")
    return size_bytes


def _add_tensors(header: dict[str, Any], sizes: Counter[str]) -> int:
    last = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        start, end = (int(place) for place in tensor["data_offsets"])
        if not 0 <= start <= end:
            raise ValueError(name)
        sizes[str(tensor["dtype"])] += end - start
        last = max(last, end)
    return last
