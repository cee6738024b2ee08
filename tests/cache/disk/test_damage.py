"""What the store believes: a file that is not what was written is a miss, whatever it is."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cache.disk import durable
from engine.cache.disk.block_file import decode, encode
from engine.cache.disk.block_files import DiskRefusedError
from engine.cache.disk.records import BlockRecord, KVSpace
from tests.cache.disk.blocks import (
    OTHER_FORMAT,
    OTHER_MODEL,
    SPACE,
    Events,
    agent,
    block,
    chain,
    opened,
    path_of,
    read,
    replace_by_link,
    write_all,
)


def overwrite(path: Path, record: BlockRecord, space: KVSpace = SPACE) -> None:
    """Puts a sound block file in the place of another."""
    path.write_bytes(b"".join(encode(record, space)))


def written_for(path: Path, space: KVSpace) -> None:
    """The same block with the same name and size, of another model or format."""
    record, _ = decode(path.read_bytes())
    overwrite(path, record, space)


def flip(path: Path, position: int) -> None:
    """Turns one bit over."""
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def replace_by(path: Path, make: Callable[[Path], None]) -> None:
    """Something else under the same name."""
    path.unlink()
    make(path)


# One of the same size as the test's blocks, so that only what is inside tells.
OTHER = block(SPACE.root_hash, 99)
DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "bit in header": lambda path: flip(path, 100),
    "bit in data": lambda path: flip(path, -7),
    "wrong model": lambda path: written_for(path, OTHER_MODEL),
    "wrong format": lambda path: written_for(path, OTHER_FORMAT),
    "another block": lambda path: overwrite(path, OTHER),
    "symbolic link": replace_by_link,
    "pipe": lambda path: replace_by(path, os.mkfifo),
    "folder": lambda path: replace_by(path, Path.mkdir),
    "writable by others": lambda path: path.chmod(0o620),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_file_is_a_miss_and_set_aside(tmp_path: Path, how: str) -> None:
    events = Events()
    records = chain(3)
    with opened(tmp_path, events=events) as (store, _):
        write_all(store, records)
        DAMAGES[how](path_of(tmp_path, records[1]))

        assert read(store, records) == records[:1]

        assert events.kinds() == ["quarantine"]
        assert store.num_quarantined == 1
        assert not os.path.lexists(path_of(tmp_path, records[1]))
        assert len(list((tmp_path / "quarantine").iterdir())) == 1
        assert records[1].block_hash not in store.index
        write_all(store, records)
        assert read(store, records) == records


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_while_stopped_cuts_the_agent_or_is_found_when_read(
    tmp_path: Path, how: str
) -> None:
    events = Events()
    records = chain(3)
    with opened(tmp_path) as (store, _):
        write_all(store, records)
        store.save_agent(agent("repo-a", records))
    DAMAGES[how](path_of(tmp_path, records[1]))

    with opened(tmp_path, events=events) as (store, agents):
        whole = agent("repo-a", records)
        assert agents["repo-a"] in (whole, whole.cut(1, 256))
        assert read(store, records) == records[:1]
        assert events.kinds() == ["quarantine"]


def test_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events()
    with opened(tmp_path, events=events) as (store, _):
        write_all(store, chain(1))
        uid = os.geteuid()
        monkeypatch.setattr("os.geteuid", lambda: uid + 1)
        assert read(store, chain(1)) == []
    assert "another user" in events.texts("quarantine")[0]


@pytest.mark.parametrize(("number", "is_kept"), [(5, False), (13, False), (24, True), (12, True)])
def test_unreadable_file_is_a_miss_and_kept_only_if_the_fault_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_kept: bool
) -> None:
    events = Events()
    with opened(tmp_path, events=events) as (store, _):
        write_all(store, chain(1))

        def fail(*_: object) -> bytes:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr("os.pread", fail)
            assert read(store, chain(1)) == []

        assert events.kinds() == ["miss" if is_kept else "quarantine"]
        assert os.strerror(number) in events[0][1]
        assert (read(store, chain(1)) == chain(1)) is is_kept


def test_vanished_file_is_a_miss(tmp_path: Path) -> None:
    events = Events()
    with opened(tmp_path, events=events) as (store, _):
        write_all(store, chain(2))
        path_of(tmp_path, chain(2)[0]).unlink()
        assert read(store, chain(2)) == []
        assert events.kinds() == ["miss"]
        assert store.num_quarantined == 0


def test_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(fd: int, buffers: list[memoryview]) -> int:
        os.write(fd, buffers[0])
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as (store, _):
        with monkeypatch.context() as patch:
            patch.setattr("os.writev", fill_up)
            with pytest.raises(DiskRefusedError, match="No space left on device"):
                store.write_block(chain(1)[0])
        assert [path for path in (tmp_path / "kv").rglob("*") if path.is_file()] == []
        assert len(store.index) == 0


def test_block_is_synced_before_it_has_its_name_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    with opened(tmp_path) as (store, _):
        write_all(store, chain(1))
        real_sync, real_rename = durable.sync, os.rename

        def sync(fd: int) -> None:
            steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
            real_sync(fd)

        def rename(source: Path, target: Path) -> None:
            steps.append("rename")
            real_rename(source, target)

        monkeypatch.setattr(durable, "sync", sync)
        monkeypatch.setattr(os, "rename", rename)
        write_all(store, chain(2)[1:])

    assert steps[-3:] == ["file", "rename", "folder"]


def test_every_bit_flip_on_disk_is_found(tmp_path: Path) -> None:
    record = block(SPACE.root_hash, 3, num_tokens=2)
    with opened(tmp_path) as (store, _):
        write_all(store, [record])
        path = path_of(tmp_path, record)
        content = path.read_bytes()
        for position in range(0, len(content), 3):
            damaged = bytearray(content)
            damaged[position] ^= 1 << (position % 8)
            path.write_bytes(damaged)
            assert read(store, [record]) == [], f"byte {position}"
            write_all(store, [record])


def test_truncation_at_every_boundary_is_found(tmp_path: Path) -> None:
    records = chain(1)
    with opened(tmp_path) as (store, _):
        write_all(store, records)
        content = path_of(tmp_path, records[0]).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    edges = {0, 7, 8, 9, start - 1, start, start + 1, start + 4096, len(content) - 1}
    lengths = sorted(edges | {len(content) * part // 50 for part in range(50)})
    for length in lengths:
        events = Events()
        path_of(tmp_path, records[0]).write_bytes(content[:length])
        with opened(tmp_path, events=events) as (store, _):
            assert read(store, records) == [], f"cut to {length} bytes"
            assert events.kinds() == ["quarantine"]
            write_all(store, records)


def test_quarantine_is_bounded(tmp_path: Path) -> None:
    with opened(tmp_path) as (store, _):
        for seed in range(80):
            record = block(SPACE.root_hash, seed)
            write_all(store, [record])
            path_of(tmp_path, record).write_bytes(b"x")
            assert read(store, [record]) == []
        assert store.num_quarantined == 80
    assert len(list((tmp_path / "quarantine").iterdir())) == 64
