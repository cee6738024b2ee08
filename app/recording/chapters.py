"""The lines of a recording's file, member by member, as far as they are there."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

_GZIP = 31
CHUNK_BYTES = 1 << 16
MAX_MEMBER_BYTES = 1 << 30
"""So much of one member is believed; a chapter that was written here is far below it."""


class DamagedError(Exception):
    """What lies at a place in the file is not what was written; the message says which."""


@dataclass(frozen=True, slots=True)
class Member:
    """One gzip member.

    Attributes:
        offset: Where it begins in the file.
        lines: Its complete lines.
        is_whole: Whether its end is there.
    """

    offset: int
    lines: list[dict[str, Any]]
    is_whole: bool


def members(file: BinaryIO, offset: int = 0) -> Iterator[Member]:
    """The members of a file from a place on; the last may be cut off, in mid-line too.

    Raises:
        DamagedError: There is something else than a member.
    """
    file.seek(offset)
    rest = file.read(CHUNK_BYTES)
    while rest:
        decompressor = zlib.decompressobj(_GZIP)
        text, num_read = bytearray(), 0
        while rest and not decompressor.eof:
            try:
                text += decompressor.decompress(rest)
            except zlib.error as error:
                raise DamagedError(f"byte {offset + num_read}: {error}") from error
            if len(text) > MAX_MEMBER_BYTES:
                raise DamagedError(f"byte {offset}: more than was ever written")
            num_read += len(rest) - len(decompressor.unused_data)
            rest = decompressor.unused_data or file.read(CHUNK_BYTES)
        yield Member(offset, _lines(text, offset), decompressor.eof)
        offset += num_read


def _lines(text: bytearray, offset: int) -> list[dict[str, Any]]:
    complete, _, _ = text.rpartition(b"\n")
    try:
        lines = [json.loads(line) for line in complete.split(b"\n")] if complete else []
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"byte {offset}: {error}") from error
    if not all(isinstance(line, dict) for line in lines):
        raise DamagedError(f"byte {offset}: no objects")
    return lines
