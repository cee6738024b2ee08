"""The index in SQLite, so that a start need not open every block file."""

from __future__ import annotations

import json
import os
import sqlite3
from array import array
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.cache import reply
from engine.cache.disk.block_index import AgentKey, BlockEntry, BlockIndex
from engine.cache.disk.durable import UntrustedFileError, check_trusted
from engine.cache.disk.records import HASH_BYTES, AgentRecord
from engine.cache.turn_history import from_scalars, to_scalars

DATABASE_NAME = "index.db"
DATABASE_FILES = (f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", DATABASE_NAME)
"""In the order to move them away: SQLite must never meet an old log beside a new database."""

SCHEMA_VERSION = 3

_SCHEMA = f"""
BEGIN;
CREATE TABLE blocks (
    block_hash BLOB PRIMARY KEY,
    space_name TEXT NOT NULL,
    parent_hash BLOB NOT NULL,
    num_tokens INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    last_use_time REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE agents (
    space_name TEXT NOT NULL,
    namespace TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    named_here INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    block_hashes BLOB NOT NULL,
    num_tokens INTEGER NOT NULL,
    tail_token_ids BLOB NOT NULL,
    prompt_digest BLOB NOT NULL,
    num_prompt_tokens INTEGER NOT NULL,
    num_turns INTEGER NOT NULL,
    last_active_time REAL NOT NULL,
    last_turn TEXT NOT NULL,
    turns TEXT NOT NULL,
    replies TEXT NOT NULL,
    PRIMARY KEY (space_name, namespace, agent_id)
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_BLOCK_TYPES = (bytes, str, bytes, int, int, float)
_AGENT_TYPES = (
    *(str, str, str, int, str, int, bytes, int, bytes, bytes),
    *(int, int, float, str, str, str),
)
_DAMAGED_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Blocks = dict[bytes, BlockEntry]
Agents = dict[AgentKey, AgentRecord]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error means that the file's content is wrong, not that the disk refuses."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED_CODES


class IndexDatabase:
    """One connection, to be used by the thread that made it."""

    def __init__(self, folder: Path) -> None:
        """Opens the database of a folder, or makes one.

        Args:
            folder: The data folder.

        Raises:
            UntrustedFileError: It is damaged, of another version, or not ours alone.
            OSError, sqlite3.Error: The disk refuses.
        """
        path = folder / DATABASE_NAME
        _make_private(path)
        self._connection = sqlite3.connect(path, isolation_level=None)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if is_damage(error):
                raise UntrustedFileError(f"the index is damaged ({error})") from error
            raise
        except UntrustedFileError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        connection = self._connection
        # Alone in the folder, so no shared memory is needed: a mapped file that is cut short, or
        # that a full disk cannot back, ends the process.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL syncs at each commit: only then is a commit a promise.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            connection.executescript(_SCHEMA)
        elif version != SCHEMA_VERSION:
            raise UntrustedFileError(f"the index has version {version}, not {SCHEMA_VERSION}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise UntrustedFileError("the index is damaged (quick_check failed)")

    def read(self) -> tuple[Blocks, Agents]:
        """All rows.

        Raises:
            UntrustedFileError: A row cannot be one of ours.
            sqlite3.Error: The disk refuses.
        """
        try:
            blocks = dict(map(_to_block, self._connection.execute("SELECT * FROM blocks")))
            agents = dict(map(_to_agent, self._connection.execute("SELECT * FROM agents")))
        except (ValueError, TypeError, RecursionError) as error:
            raise UntrustedFileError(f"the index is damaged ({error})") from error
        except sqlite3.Error as error:
            # Text that is not UTF-8 is an error of the Python module, which has no code.
            if is_damage(error) or not hasattr(error, "sqlite_errorcode"):
                raise UntrustedFileError(f"the index is damaged ({error})") from error
            raise
        return blocks, agents

    def save(self, index: BlockIndex) -> None:
        """Writes all that is unsaved in one transaction; then it is durable and marked so.

        Raises:
            sqlite3.Error: Nothing was written, and all is still marked as unsaved.
        """
        connection = self._connection
        blocks, agents = index.unsaved_blocks, index.unsaved_agents
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Removals first, so that a row never refers to a block that was removed before it.
            _execute_many(
                connection,
                "DELETE FROM agents WHERE space_name = ? AND namespace = ? AND agent_id = ?",
                (key for key in agents if key not in index.agents),
            )
            _execute_many(
                connection,
                "DELETE FROM blocks WHERE block_hash = ?",
                ((block_hash,) for block_hash in blocks if block_hash not in index.entries),
            )
            _execute_many(
                connection,
                "REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?)",
                (_from_block(h, index.entries[h]) for h in blocks if h in index.entries),
            )
            _execute_many(
                connection,
                f"REPLACE INTO agents VALUES ({', '.join('?' * len(_AGENT_TYPES))})",
                (_from_agent(key, index.agents[key]) for key in agents if key in index.agents),
            )
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        blocks.clear()
        agents.clear()

    def close(self) -> None:
        """Closes the connection; what was not saved is lost."""
        self._connection.close()


def _execute_many(
    connection: sqlite3.Connection, statement: str, rows: Iterable[tuple[object, ...]]
) -> None:
    with closing(connection.executemany(statement, rows)):
        pass


def _make_private(path: Path) -> None:
    """Makes the file itself, because SQLite would let the umask decide who may read it."""
    for name in DATABASE_FILES:
        try:
            check_trusted(os.lstat(path.with_name(name)))
        except FileNotFoundError:
            continue
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))


def _from_block(block_hash: bytes, entry: BlockEntry) -> tuple[object, ...]:
    return (
        block_hash,
        entry.space_name,
        entry.parent_hash,
        entry.num_tokens,
        entry.size_bytes,
        float(entry.last_use_time),
    )


def _check_types(row: tuple[object, ...], types: tuple[type, ...]) -> None:
    # SQLite keeps any type in any column, so a damaged file can hold surprises.
    if tuple(map(type, row)) != types:
        raise TypeError("a row is out of shape")


def _to_block(row: tuple[bytes, str, bytes, int, int, float]) -> tuple[bytes, BlockEntry]:
    _check_types(row, _BLOCK_TYPES)
    block_hash, entry = row[0], BlockEntry(*row[1:])
    if len(block_hash) != HASH_BYTES or len(entry.parent_hash) != HASH_BYTES:
        raise ValueError("a hash has 32 bytes")
    if entry.num_tokens < 0 or entry.size_bytes < 1:
        raise ValueError("a block's size is out of range")
    return block_hash, entry


def _from_agent(key: AgentKey, record: AgentRecord) -> tuple[object, ...]:
    return (
        *key,
        int(record.named_here),
        record.protocol,
        int(record.pinned),
        b"".join(record.block_hashes),
        record.num_tokens,
        array("I", record.tail_token_ids).tobytes(),
        record.prompt_digest,
        record.num_prompt_tokens,
        record.num_turns,
        float(record.last_active_time),
        json.dumps(dict(record.last_turn)),
        json.dumps([to_scalars(mark) for mark in record.turns]),
        json.dumps([reply.to_scalars(tokens) for tokens in record.replies]),
    )


def _to_agent(row: tuple[Any, ...]) -> tuple[AgentKey, AgentRecord]:
    _check_types(row, _AGENT_TYPES)
    hashes = row[6]
    last_turn, turns, replies = (json.loads(text) for text in row[13:16])
    is_shaped = isinstance(last_turn, dict) and isinstance(turns, list)
    if len(hashes) % HASH_BYTES or not is_shaped:
        raise ValueError("an agent's row is out of shape")
    starts = range(0, len(hashes), HASH_BYTES)
    record = AgentRecord(
        agent_id=row[2],
        namespace=row[1],
        named_here=bool(row[3]),
        protocol=row[4],
        pinned=bool(row[5]),
        block_hashes=tuple(hashes[start : start + HASH_BYTES] for start in starts),
        num_tokens=row[7],
        tail_token_ids=tuple(array("I", row[8])),
        prompt_digest=row[9],
        num_prompt_tokens=row[10],
        num_turns=row[11],
        last_active_time=row[12],
        last_turn=last_turn,
        turns=tuple(from_scalars(turn) for turn in turns),
        replies=tuple(map(reply.from_scalars, replies)),
    )
    return (row[0], record.namespace, record.agent_id), record
