"""The format of a block file: safetensors, with a header that is checked before it is believed.

The layout (https://huggingface.co/docs/safetensors) is an 8-byte little-endian header length, a
JSON header and the tensors' bytes. Safetensors has no checksum, so one stands in the header's
metadata, first and at a fixed place: xxh3-128 over the whole file with those 32 digits as zeros.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import xxhash

from engine.cache.block import BLOCK_TOKENS, block_hash
from engine.cache.disk.durable import Buffer, UntrustedFileError
from engine.cache.disk.records import (
    HASH_BYTES,
    BlockRecord,
    KVSpace,
    TensorBytes,
    tensor_bytes,
)

SUFFIX = ".safetensors"
FORMAT_NAME = "stoker-kv-block"
FORMAT_VERSION = "1"
MAX_HEADER_BYTES = 4 << 20
MAX_FILE_BYTES = 4 << 30
MAX_AXES = 16

_LENGTH_BYTES = 8
_ALIGN_BYTES = 64
_DIGEST_CHARS = 32
_BEFORE_DIGEST = b'{"__metadata__":{"checksum":"'
_DIGEST_START = _LENGTH_BYTES + len(_BEFORE_DIGEST)
_DIGEST_STOP = _DIGEST_START + _DIGEST_CHARS
_NO_DIGEST = b"0" * _DIGEST_CHARS
_METADATA_KEYS = {
    "checksum",
    "format",
    "version",
    "fingerprint",
    "kv_format",
    "parent_hash",
    "token_ids",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpan:
    """Where a tensor lies in a block file.

    Attributes:
        dtype: Safetensors type.
        shape: Its axes.
        start: First byte, counted from the start of the file.
        stop: One past the last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockHeader:
    """What a block file says about itself, sizes checked against the file.

    Attributes:
        space: The model and KV format that it was written for.
        parent_hash: Hash of the block before it.
        token_ids: Its tokens.
        spans: Its tensors, in order, without gaps, up to the end of the file.
    """

    space: KVSpace
    parent_hash: bytes
    token_ids: tuple[int, ...]
    spans: tuple[TensorSpan, ...]

    @property
    def block_hash(self) -> bytes:
        """The hash that its parent and tokens give; the file must be named by it."""
        return block_hash(self.parent_hash, self.token_ids)


def file_name(block_hash: bytes) -> str:
    """Name of a block's file."""
    return block_hash.hex() + SUFFIX


def parse_file_name(name: str) -> bytes | None:
    """The hash that a file is named by; None if it is not a block file's name."""
    if len(name) != 2 * HASH_BYTES + len(SUFFIX) or not name.endswith(SUFFIX):
        return None
    try:
        value = bytes.fromhex(name[: 2 * HASH_BYTES])
    except ValueError:
        return None
    return value if file_name(value) == name else None


def block_path(kv_folder: Path, space_name: str, block_hash: bytes) -> Path:
    """Where a block's file lies."""
    name = file_name(block_hash)
    return kv_folder / space_name / name[:2] / name


def encode(record: BlockRecord, space: KVSpace) -> list[Buffer]:
    """A block file's content in pieces; the tensors' bytes are not copied."""
    metadata = {
        "checksum": _NO_DIGEST.decode(),
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "fingerprint": space.fingerprint,
        "kv_format": space.kv_format,
        "parent_hash": record.parent_hash.hex(),
        "token_ids": " ".join(map(str, record.token_ids)),
    }
    header: dict[str, Any] = {"__metadata__": metadata}
    stop = 0
    for index, tensor in enumerate(record.tensors):
        start, stop = stop, stop + tensor.num_bytes
        header[f"{index:05d}"] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    # Spaces, as the format allows, so that the first tensor starts at a multiple of 64.
    text += b" " * (-(_LENGTH_BYTES + len(text)) % _ALIGN_BYTES)
    head = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    data = [memoryview(tensor.data).cast("B") for tensor in record.tensors if tensor.num_bytes]
    digest = _digest([head, *data])
    return [head[:_DIGEST_START] + digest + head[_DIGEST_STOP:], *data]


def _digest(buffers: Sequence[Buffer]) -> bytes:
    state = xxhash.xxh3_128()
    for buffer in buffers:
        state.update(buffer)
    return state.hexdigest().encode()


def header_bytes(head: bytes, file_bytes: int) -> int:
    """Bytes before the first tensor.

    Args:
        head: At least the first 8 bytes of the file.
        file_bytes: Size of the file.

    Raises:
        UntrustedFileError: The file cannot have such a header.
    """
    if len(head) < _LENGTH_BYTES:
        raise UntrustedFileError("it is too short")
    num_bytes = _LENGTH_BYTES + int.from_bytes(head[:_LENGTH_BYTES], "little")
    if num_bytes > min(file_bytes, MAX_HEADER_BYTES) or file_bytes > MAX_FILE_BYTES:
        raise UntrustedFileError("its header does not fit its size")
    return num_bytes


def parse_header(head: bytes, file_bytes: int) -> BlockHeader:
    """Reads and checks a header; whatever the bytes are, nothing else can be raised.

    Args:
        head: The file's first bytes, with the whole header.
        file_bytes: Size of the file.

    Raises:
        UntrustedFileError: It is not a header of this version, or does not fit the file.
    """
    data_start = header_bytes(head, file_bytes)
    text = head[_LENGTH_BYTES:data_start]
    if len(text) != data_start - _LENGTH_BYTES or not text.startswith(_BEFORE_DIGEST):
        raise UntrustedFileError("its header is not ours")
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__")
        _check_metadata(metadata)
        return BlockHeader(
            space=KVSpace(metadata["fingerprint"], metadata["kv_format"]),
            parent_hash=_parse_hash(metadata["parent_hash"]),
            token_ids=_parse_token_ids(metadata["token_ids"]),
            spans=_parse_spans(header, data_start, file_bytes),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UntrustedFileError(f"its header is damaged ({type(error).__name__})") from error


def _check_metadata(metadata: dict[str, str]) -> None:
    if metadata["format"] != FORMAT_NAME or metadata["version"] != FORMAT_VERSION:
        raise UntrustedFileError("it has another format or version")
    if metadata.keys() != _METADATA_KEYS:
        raise ValueError("unknown metadata")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise TypeError("metadata is text")


def _parse_hash(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != HASH_BYTES:
        raise ValueError("a hash has 32 bytes")
    return value


def _parse_token_ids(text: str) -> tuple[int, ...]:
    token_ids = tuple(int(part) for part in text.split(" ")) if text else ()
    if len(token_ids) > BLOCK_TOKENS or not all(0 <= token < 1 << 32 for token in token_ids):
        raise ValueError("tokens out of range")
    return token_ids


def _parse_spans(
    header: dict[str, Any], data_start: int, file_bytes: int
) -> tuple[TensorSpan, ...]:
    spans = []
    for index, (name, entry) in enumerate(header.items()):
        if name != f"{index:05d}" or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError("unknown entry")
        start, stop = _parse_sizes(entry["data_offsets"])
        span = TensorSpan(
            dtype=entry["dtype"],
            shape=_parse_sizes(entry["shape"]),
            start=data_start + start,
            stop=data_start + stop,
        )
        if span.stop - span.start != tensor_bytes(span.dtype, span.shape):
            raise ValueError("shape and length differ")
        spans.append(span)
    edges = [data_start, *(edge for span in spans for edge in (span.start, span.stop)), file_bytes]
    if any(a != b for a, b in list(pairwise(edges))[::2]):
        raise UntrustedFileError("its tensors do not fill it")
    return tuple(spans)


def _parse_sizes(sizes: list[int]) -> tuple[int, ...]:
    if len(sizes) > MAX_AXES:
        raise ValueError("too many axes")
    if not all(type(size) is int and 0 <= size <= MAX_FILE_BYTES for size in sizes):
        raise ValueError("a size is out of range")
    return tuple(sizes)


def decode(content: bytes) -> tuple[BlockRecord, KVSpace]:
    """The block that a whole file holds. Its tensors are views of ``content``.

    Raises:
        UntrustedFileError: Any bit of it is not as it was written.
    """
    header = parse_header(content, len(content))
    view = memoryview(content)
    expected = _digest([view[:_DIGEST_START], _NO_DIGEST, view[_DIGEST_STOP:]])
    if content[_DIGEST_START:_DIGEST_STOP] != expected:
        raise UntrustedFileError("its checksum is wrong")
    tensors = tuple(
        TensorBytes(span.dtype, span.shape, view[span.start : span.stop]) for span in header.spans
    )
    record = BlockRecord(
        block_hash=header.block_hash,
        parent_hash=header.parent_hash,
        token_ids=header.token_ids,
        tensors=tensors,
    )
    return record, header.space
