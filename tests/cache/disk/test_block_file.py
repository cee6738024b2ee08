"""The format of a block file: what was written comes back, and nothing else is ever believed."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import pytest
import xxhash
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open

from engine.cache.block import BLOCK_TOKENS, block_hash
from engine.cache.disk.block_file import decode, encode, file_name, parse_file_name
from engine.cache.disk.durable import UntrustedFileError
from engine.cache.disk.records import BlockRecord, TensorBytes
from tests.cache.disk.blocks import SPACE, block

SMALL = block(SPACE.root_hash, seed=1, num_tokens=3)


def content_of(record: BlockRecord) -> bytes:
    return b"".join(encode(record, SPACE))


CONTENT = content_of(SMALL)


def with_header(edit: dict[str, object], metadata: dict[str, object] | None = None) -> bytes:
    """The small block's file with another header and the checksum that goes with it."""
    length = int.from_bytes(CONTENT[:8], "little")
    header = json.loads(CONTENT[8 : 8 + length])
    header["__metadata__"].update(metadata or {})
    header["__metadata__"]["checksum"] = "0" * 32
    header.update(edit)
    text = json.dumps(header, separators=(",", ":")).encode()
    content = len(text).to_bytes(8, "little") + text + CONTENT[8 + length :]
    digest = xxhash.xxh3_128(content).hexdigest().encode()
    return content.replace(b"0" * 32, digest, 1)


def is_refused(content: bytes) -> bool:
    try:
        record, _ = decode(content)
    except UntrustedFileError:
        return True
    assert record == SMALL
    return False


@pytest.mark.parametrize("num_tokens", [1, 100, BLOCK_TOKENS])
def test_block_comes_back_as_it_was(num_tokens: int) -> None:
    record = block(SPACE.root_hash, seed=5, num_tokens=num_tokens)

    again, space = decode(content_of(record))

    assert again == record
    assert space == SPACE


def test_safetensors_reads_the_file(tmp_path: Path) -> None:
    record = BlockRecord(
        block_hash=SMALL.block_hash,
        parent_hash=SMALL.parent_hash,
        token_ids=SMALL.token_ids,
        tensors=SMALL.tensors[:2],
    )
    path = tmp_path / "block.safetensors"
    path.write_bytes(content_of(record))

    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["token_ids"] == " ".join(map(str, SMALL.token_ids))
        for name, tensor in zip(sorted(file.keys()), record.tensors, strict=True):
            assert file.get_tensor(name).tobytes() == tensor.data
            assert file.get_tensor(name).shape == tensor.shape


def test_tensors_may_be_views_of_any_type_or_empty() -> None:
    tokens = (4, 5)
    floats = array("f", [1.5, -2.0])
    record = BlockRecord(
        block_hash=block_hash(SPACE.root_hash, tokens),
        parent_hash=SPACE.root_hash,
        token_ids=tokens,
        tensors=(
            TensorBytes("F32", (1, 2), memoryview(floats)),
            TensorBytes("F32", (0, 4), b""),
        ),
    )

    again, _ = decode(content_of(record))

    assert [bytes(tensor.data) for tensor in again.tensors] == [floats.tobytes(), b""]
    assert [tensor.shape for tensor in again.tensors] == [(1, 2), (0, 4)]


def test_every_flipped_bit_is_found() -> None:
    for position in range(len(CONTENT)):
        for bit in range(8):
            damaged = bytearray(CONTENT)
            damaged[position] ^= 1 << bit
            assert is_refused(bytes(damaged)), f"bit {bit} of byte {position}"


def test_every_shorter_or_longer_file_is_found() -> None:
    for length in range(len(CONTENT)):
        assert is_refused(CONTENT[:length]), f"cut to {length} bytes"
    assert is_refused(CONTENT + b"\0")
    assert is_refused(CONTENT + CONTENT)


def test_with_header_makes_what_is_accepted() -> None:
    assert not is_refused(with_header({}))


@pytest.mark.parametrize(
    "metadata",
    [
        {"version": "2"},
        {"format": "pt"},
        {"token_ids": " "},
        {"token_ids": "1 2 x"},
        {"token_ids": "-1"},
        {"token_ids": "4294967296"},
        {"token_ids": " ".join(["1"] * 257)},
        {"token_ids": [1, 2, 3]},
        {"parent_hash": "ab"},
        {"parent_hash": "zz" * 32},
        {"parent_hash": None},
        {"kv_format": 5},
        {"more": "x"},
    ],
)
def test_metadata_that_lies_is_refused_even_with_a_right_checksum(
    metadata: dict[str, object],
) -> None:
    assert is_refused(with_header({}, metadata))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1, 1, 3, 4], "data_offsets": [0, 47]},
        {"dtype": "F32", "shape": [1, 1, 3, 4], "data_offsets": [0, 48.0]},
        {"dtype": "F32", "shape": [1, 1, 3, 4], "data_offsets": [-48, 0]},
        {"dtype": "F32", "shape": [1, 1, 3, 4], "data_offsets": [0]},
        {"dtype": "F32", "shape": [1, 1, 3, 4], "data_offsets": [1, 49]},
        {"dtype": "F32", "shape": [1, 1, 3, 4], "data_offsets": [0, 1 << 70]},
        {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 48]},
        {"dtype": "F32", "shape": [-1, -12], "data_offsets": [0, 48]},
        {"dtype": "F32", "shape": [True, 12], "data_offsets": [0, 48]},
        {"dtype": "F32", "shape": [1] * 1000 + [12], "data_offsets": [0, 48]},
        {"dtype": "F32", "shape": "12", "data_offsets": [0, 48]},
        {"dtype": "F31", "shape": [12], "data_offsets": [0, 48]},
        {"dtype": ["F32"], "shape": [12], "data_offsets": [0, 48]},
        {"dtype": "F32", "shape": [12]},
        {"dtype": "F32", "shape": [12], "data_offsets": [0, 48], "more": 1},
        ["F32", [12], [0, 48]],
        None,
    ],
)
def test_tensors_that_lie_are_refused_even_with_a_right_checksum(entry: object) -> None:
    assert is_refused(with_header({"00000": entry}))


@given(st.binary(max_size=400))
@example(b"")
@example((1 << 63).to_bytes(8, "little"))
@example((1 << 20).to_bytes(8, "little") + b'{"__metadata__":{"checksum":"' + b"[" * (1 << 20))
@example(
    (200_028).to_bytes(8, "little") + b'{"__metadata__":{"checksum":"x"},"a":' + b"[" * 200_000
)
def test_nonsense_is_refused(content: bytes) -> None:
    assert is_refused(content)


def test_only_its_own_name_is_a_block_files_name() -> None:
    name = file_name(SMALL.block_hash)

    assert parse_file_name(name) == SMALL.block_hash
    for other in (name.upper(), name[1:], name + "x", "zz" + name[2:], " " + name[1:], ".tmp-x"):
        assert parse_file_name(other) is None


def test_records_that_contradict_themselves_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="takes 8 bytes"):
        TensorBytes("F32", (2,), b"1234567")
    with pytest.raises(ValueError, match="unknown tensor type"):
        TensorBytes("F1", (2,), b"12")
    with pytest.raises(ValueError, match="in one piece"):
        TensorBytes("U8", (2,), memoryview(b"1234")[::2])
    with pytest.raises(ValueError, match="hash"):
        BlockRecord(block_hash=bytes(32), parent_hash=SPACE.root_hash, token_ids=(1,), tensors=())
    with pytest.raises(ValueError, match="tokens"):
        BlockRecord(
            block_hash=block_hash(SPACE.root_hash, range(257)),
            parent_hash=SPACE.root_hash,
            token_ids=tuple(range(257)),
            tensors=(),
        )
