"""The file that an agent travels in: a tar archive that can be written in one way only.

Any tar program unpacks it. The members, in this order:

- ``agent.json``: the agent, its model, and the names of its blocks
- ``blocks/<hash>.safetensors``, one per block in the order of its table: the file as it is on disk
- ``xxh3-128``: 32 hex digits over every byte before this member

A reader knows each next member's name from what it has read, so it builds the 512 bytes of the
header that must come and compares: no name, mode or link in a file is ever acted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import BinaryIO

import xxhash

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.archived_agent import ArchivedAgent, parse_agent
from engine.cache.disk.block_file import MAX_FILE_BYTES, decode, encode, file_name
from engine.cache.disk.durable import Buffer, UntrustedFileError
from engine.cache.disk.records import BlockRecord
from engine.errors import ArchiveError

ARCHIVE_SUFFIX = ".stoker-agent"
AGENT_MEMBER = "agent.json"
DIGEST_MEMBER = "xxh3-128"
MAX_AGENT_BYTES = 32 << 20
"""So long may ``agent.json`` be; that is room for more than 100 000 blocks."""

_RECORD_BYTES = 512
_DIGEST_CHARS = 32
_SIZE_FIELD = slice(124, 136)
_CHECKSUM_FIELD = slice(148, 156)
_END = bytes(2 * _RECORD_BYTES)


def archive_parts(
    agent: ArchivedAgent, blocks: Iterable[BlockRecord]
) -> Iterator[Sequence[Buffer]]:
    """An archive's content, a member at a time.

    Args:
        agent: The agent.
        blocks: Its blocks, in the order of its table.
    """
    digest = xxhash.xxh3_128()
    for name, buffers in _members(agent, blocks):
        part = _member(name, buffers)
        for buffer in part:
            digest.update(buffer)
        yield part
    yield [*_member(DIGEST_MEMBER, [digest.hexdigest().encode()]), _END]


def _members(
    agent: ArchivedAgent, blocks: Iterable[BlockRecord]
) -> Iterator[tuple[str, list[Buffer]]]:
    yield AGENT_MEMBER, [agent.encode()]
    for block in blocks:
        yield block_member(block.block_hash), encode(block, agent.space)


def _member(name: str, buffers: Sequence[Buffer]) -> list[Buffer]:
    num_bytes = sum(memoryview(buffer).nbytes for buffer in buffers)
    return [member_header(name, num_bytes), *buffers, bytes(-num_bytes % _RECORD_BYTES)]


def block_member(block_hash: bytes) -> str:
    """Name of a block's member."""
    return f"blocks/{file_name(block_hash)}"


def member_header(name: str, num_bytes: int) -> bytes:
    """The one header that a member of that name and length has (POSIX ustar).

    Args:
        name: At most 100 ASCII characters.
        num_bytes: Length of its content.
    """
    header = bytearray(_RECORD_BYTES)
    header[: len(name)] = name.encode("ascii")
    for start, text in ((100, b"0000600\0"), (108, b"0000000\0"), (116, b"0000000\0")):
        header[start : start + len(text)] = text
    header[_SIZE_FIELD] = b"%011o\0" % num_bytes
    header[136:148] = b"00000000000\0"
    header[_CHECKSUM_FIELD] = b" " * 8
    header[156:157] = b"0"
    header[257:265] = b"ustar\00000"
    header[_CHECKSUM_FIELD] = b"%06o\0 " % sum(header)
    return bytes(header)


class ArchiveReader:
    """Reads an archive from its beginning to its end, once, and believes nothing.

    ``agent`` is known from the start. Once all ``blocks`` were taken, nothing of the file is left
    that was not checked.
    """

    def __init__(self, file: BinaryIO, file_bytes: int) -> None:
        """Reads the agent.

        Args:
            file: At its beginning.
            file_bytes: Its length; no more than that is read, or held in memory.

        Raises:
            ArchiveError: It is not an archive of an agent.
            OSError: The device failed.
        """
        self._file = file
        self._num_left = file_bytes
        self._digest = xxhash.xxh3_128()
        self.agent = parse_agent(self._read_member(AGENT_MEMBER, MAX_AGENT_BYTES))

    def blocks(self) -> Iterator[BlockRecord]:
        """The blocks, each verified alone and in its place; then the end of the file.

        Raises:
            ArchiveError: Anything is not as it was written.
            OSError: The device failed.
        """
        agent, root_hash = self.agent.record, self.agent.root_hash
        parent_hash, num_tokens = root_hash, 0
        tail: tuple[int, ...] = ()
        for number, block_hash in enumerate(agent.block_hashes):
            block = self._read_block(block_hash)
            # A block of fewer than 256 tokens can only be the last.
            if block.parent_hash != parent_hash or num_tokens != number * BLOCK_TOKENS:
                raise ArchiveError("the archive's blocks do not follow each other")
            parent_hash = block_hash
            num_tokens += len(block.token_ids)
            tail = block.token_ids if len(block.token_ids) < BLOCK_TOKENS else ()
            yield block
        if num_tokens != agent.num_tokens or tail != agent.tail_token_ids:
            raise ArchiveError("the archive's blocks are not those of its agent")
        yield from self._checkpoints({root_hash, *agent.block_hashes})
        self._read_end()

    def _checkpoints(self, parents: Set[bytes]) -> Iterator[BlockRecord]:
        for block_hash in self.agent.checkpoints:
            block = self._read_block(block_hash)
            if block.parent_hash not in parents or len(block.token_ids) >= BLOCK_TOKENS:
                raise ArchiveError("a checkpoint of the archive follows none of its blocks")
            yield block

    def _read_block(self, block_hash: bytes) -> BlockRecord:
        content = self._read_member(block_member(block_hash), MAX_FILE_BYTES)
        try:
            block, space = decode(content)
        except (UntrustedFileError, ValueError) as error:
            raise ArchiveError(f"a block of the archive is damaged: {error}") from error
        if space != self.agent.space:
            raise ArchiveError("a block of the archive belongs to another model or KV format")
        if block.block_hash != block_hash:
            raise ArchiveError("a block of the archive is not the one it is named as")
        return block

    def _read_member(self, name: str, max_bytes: int) -> bytes:
        header = self._read(_RECORD_BYTES)
        num_bytes = _parse_size(header)
        if header != member_header(name, num_bytes):
            raise ArchiveError("the archive is damaged, or is no archive of an agent")
        if num_bytes > max_bytes:
            raise ArchiveError(f"a part of the archive has {num_bytes} bytes, which is too many")
        content = self._read(num_bytes)
        if any(self._read(-num_bytes % _RECORD_BYTES)):
            raise ArchiveError("the archive is damaged")
        return content

    def _read_end(self) -> None:
        expected = self._digest.hexdigest().encode()
        if self._read_member(DIGEST_MEMBER, _DIGEST_CHARS) != expected:
            raise ArchiveError("the archive is damaged: its checksum is wrong")
        if self._read(len(_END)) != _END or self._num_left:
            raise ArchiveError("the archive has something after its end")

    def _read(self, num_bytes: int) -> bytes:
        # Checked first: a header must not make us ask for memory that the file cannot fill.
        if num_bytes > self._num_left:
            raise ArchiveError("the archive is cut short")
        content = self._file.read(num_bytes)
        if len(content) != num_bytes:
            raise ArchiveError("the archive is cut short")
        self._num_left -= num_bytes
        self._digest.update(content)
        return content


def _parse_size(header: bytes) -> int:
    digits = header[_SIZE_FIELD][:-1]
    return int(digits, 8) if digits.isdigit() and set(digits) <= set(b"01234567") else 0
