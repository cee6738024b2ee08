"""What the store keeps, what it believes, and what goes first when room is short."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cache.disk import durable
from engine.cache.disk.block_file import decode, encode
from engine.cache.disk.block_files import DiskRefusedError
from engine.cache.disk.block_index import FRESH_S, BlockIndex
from engine.cache.disk.index_database import IndexDatabase
from engine.cache.disk.records import BlockRecord, KVSpace
from engine.cache.disk.store import BlockStore
from tests.cache.disk.blocks import (
    OTHER_FORMAT,
    OTHER_MODEL,
    SPACE,
    Clock,
    Events,
    agent,
    block,
    chain,
    file_bytes,
    hashes,
    opened,
    path_of,
    write_all,
)


def read(store: BlockStore, records: list[BlockRecord]) -> list[BlockRecord]:
    """What comes back of a chain; must be a beginning of it, to the byte."""
    found = list(store.read_blocks(hashes(records)))
    assert found == records[: len(found)]
    return found


# Keeping


def test_blocks_and_agents_survive_a_restart(tmp_path: Path) -> None:
    records = chain(3, num_tail_tokens=40)
    kept = agent("repo-a", records, pinned=True)
    with opened(tmp_path) as (store, agents):
        assert agents == {}
        write_all(store, records)
        assert store.save_agent(kept) == kept

    events = Events()
    with opened(tmp_path, events=events) as (store, agents):
        assert agents == {"repo-a": kept}
        assert read(store, records) == records
    assert events == []


def test_files_are_private(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        with opened(tmp_path) as (store, _):
            write_all(store, chain(1))
            for folder, folders, files in os.walk(tmp_path / "kv"):
                assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
                for name in files:
                    assert stat.S_IMODE(os.stat(Path(folder) / name).st_mode) == 0o600
                assert folders or files
            for name in ("index.db", "index.db-wal", "stoker.lock"):
                assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600
    finally:
        os.umask(old_mask)


def test_agents_and_blocks_belong_to_their_model_and_format(tmp_path: Path) -> None:
    for space in (SPACE, OTHER_MODEL, OTHER_FORMAT):
        with opened(tmp_path, space=space) as (store, agents):
            assert agents == {}
            records = chain(2, space=space)
            write_all(store, records)
            store.save_agent(agent("repo-a", records))

    with opened(tmp_path, space=OTHER_MODEL) as (store, agents):
        assert agents == {"repo-a": agent("repo-a", chain(2, space=OTHER_MODEL))}
        assert len(store.index) == 6
        assert read(store, chain(2, space=OTHER_MODEL)) == chain(2, space=OTHER_MODEL)
        assert read(store, chain(2)) == []
        assert store.num_quarantined == 0


def test_a_block_written_twice_is_one_file(tmp_path: Path) -> None:
    with opened(tmp_path) as (store, _):
        write_all(store, chain(1))
        num_bytes = store.index.num_bytes
        write_all(store, chain(1))
        assert store.index.num_bytes == num_bytes


def test_an_agent_is_saved_with_as_much_as_is_there(tmp_path: Path) -> None:
    records = chain(4, num_tail_tokens=9)
    with opened(tmp_path) as (store, _):
        write_all(store, [*records[:2], *records[3:]])

        saved = store.save_agent(agent("repo-a", records))

        assert saved == agent("repo-a", records).cut(2, 512)
        assert saved.tail_token_ids == ()


def test_a_tail_that_was_replaced_is_removed_once_that_is_saved(tmp_path: Path) -> None:
    first, second = chain(1, num_tail_tokens=10), chain(1, num_tail_tokens=20)
    with opened(tmp_path) as (store, _):
        write_all(store, first)
        store.save_agent(agent("repo-a", first))
        store.save_agent(agent("fork", first))
        write_all(store, second[1:])
        store.save_agent(agent("repo-a", second))
        store.save()
        assert path_of(tmp_path, first[1]).exists(), "the fork has it still"

        store.save_agent(agent("fork", second))
        assert path_of(tmp_path, first[1]).exists(), "the saved row names it still"
        store.save()
        assert not path_of(tmp_path, first[1]).exists()
        assert read(store, second) == second


def test_a_forgotten_agent_stays_forgotten(tmp_path: Path) -> None:
    records = chain(2)
    with opened(tmp_path) as (store, _):
        write_all(store, records)
        store.save_agent(agent("repo-a", records))
        store.save()
        store.forget_agent("repo-a")
    with opened(tmp_path) as (store, agents):
        assert agents == {}
        assert read(store, records) == records


# Believing


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


def replace_by_link(path: Path) -> None:
    """A link to the very same content."""
    target = path.parent.parent / "elsewhere"
    shutil.move(path, target)
    path.symlink_to(target)


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


def test_block_unlike_those_before_it_is_not_handed_over(tmp_path: Path) -> None:
    events = Events()
    records = chain(3)
    odd = [records[0], replace(records[1], tensors=records[1].tensors[:-1]), records[2]]
    with opened(tmp_path, events=events) as (store, _):
        write_all(store, odd)
        assert list(store.read_blocks(hashes(odd))) == odd[:1]
        assert "unlike" in events.texts("quarantine")[0]


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


# The index


def edit(path: Path, statement: str) -> None:
    """Runs one statement on a database."""
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def blank(path: Path) -> None:
    """Zeros for all but the first page."""
    size = path.stat().st_size
    os.truncate(path, 4096)
    os.truncate(path, size)


def replace_index(path: Path) -> None:
    """A database of somebody else's."""
    path.unlink()
    edit(path, "CREATE TABLE notes (text)")


LOSSES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "nonsense": lambda path: path.write_bytes(os.urandom(20_000)),
    "truncated": lambda path: os.truncate(path, 5000),
    "zeros inside": blank,
    "link": replace_by_link,
    "newer": lambda path: edit(path, "PRAGMA user_version = 99"),
    "foreign": replace_index,
    "text for numbers": lambda path: edit(path, "UPDATE blocks SET size_bytes = 'many'"),
    "short hashes": lambda path: edit(path, "UPDATE agents SET block_hashes = x'00'"),
    "no UTF-8": lambda path: edit(path, "UPDATE agents SET protocol = CAST(x'ff' AS TEXT)"),
    "no JSON": lambda path: edit(path, "UPDATE agents SET last_turn = '['"),
}


@pytest.mark.parametrize("how", LOSSES)
def test_lost_index_is_rebuilt_from_the_files(tmp_path: Path, how: str) -> None:
    events = Events()
    records = chain(3, num_tail_tokens=5)
    with opened(tmp_path) as (store, _):
        write_all(store, records)
        store.save_agent(agent("repo-a", records))
    LOSSES[how](tmp_path / "index.db")

    with opened(tmp_path, events=events) as (store, agents):
        assert agents == {}
        assert read(store, records) == records
        store.save_agent(agent("repo-a", records))
    assert ("rebuild" in events.kinds()) is (how != "gone")

    with opened(tmp_path) as (store, agents):
        assert agents == {"repo-a": agent("repo-a", records)}
        assert read(store, records) == records


def test_index_maps_no_shared_memory(tmp_path: Path) -> None:
    """A mapped file that is cut short, or that a full disk cannot back, would end the process."""
    with opened(tmp_path) as (store, _):
        write_all(store, chain(1))
        store.save()
        assert sorted(os.listdir(tmp_path)) == ["index.db", "index.db-wal", "kv", "stoker.lock"]


def test_an_old_log_beside_a_new_database_is_not_believed(tmp_path: Path) -> None:
    with opened(tmp_path / "home") as (store, _):
        write_all(store, chain(1))
        store.save_agent(agent("old", chain(1)))
        store.save()
        shutil.copytree(tmp_path / "home", tmp_path / "crashed")
    crashed = tmp_path / "crashed"
    assert (crashed / "index.db-wal").stat().st_size > 0
    (crashed / "index.db").unlink()

    with opened(crashed) as (store, agents):
        assert agents == {}
        assert read(store, chain(1)) == chain(1)


def test_rows_that_lie_about_chains_are_cut(tmp_path: Path) -> None:
    records, strangers = chain(3), chain(3, seed=7)
    with opened(tmp_path) as (store, _):
        write_all(store, records + strangers)
        store.save_agent(agent("repo-a", records))
    mixed = b"".join([*hashes(records[:1]), *hashes(strangers[1:])])
    edit(tmp_path / "index.db", f"UPDATE agents SET block_hashes = x'{mixed.hex()}'")

    with opened(tmp_path) as (_, agents):
        assert agents["repo-a"].block_hashes == tuple(hashes(records[:1]))
        assert agents["repo-a"].num_tokens == 256


def test_index_damaged_while_running_is_made_anew_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events()
    records = chain(2)
    with opened(tmp_path / "home", events=events) as (store, _):
        write_all(store, records[:1])
        store.save_agent(agent("repo-a", records[:1]))
        store.save()
        write_all(store, records[1:])
        store.save_agent(agent("repo-b", records))

        save = IndexDatabase.save

        def find_damage(database: IndexDatabase, index: BlockIndex) -> None:
            monkeypatch.setattr(IndexDatabase, "save", save)
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        monkeypatch.setattr(IndexDatabase, "save", find_damage)
        store.save()
        assert "rebuild" in events.kinds()
        # As after a crash: nothing is left to do for a clean end.
        shutil.copytree(tmp_path / "home", tmp_path / "crashed")

    with opened(tmp_path / "crashed") as (store, agents):
        assert read(store, records) == records
        assert agents == {
            "repo-a": agent("repo-a", records[:1]),
            "repo-b": agent("repo-b", records),
        }


# Orphans


def test_files_without_a_row_are_adopted_and_the_rest_is_cleared(tmp_path: Path) -> None:
    events = Events()
    records = chain(2)
    with opened(tmp_path) as (store, _):
        write_all(store, records)
    shutil.move(tmp_path / "kv", tmp_path / "kept")
    with opened(tmp_path) as (store, _):
        assert len(store.index) == 0
    (tmp_path / "kv").rmdir()
    shutil.move(tmp_path / "kept", tmp_path / "kv")
    folder = path_of(tmp_path, records[0]).parent
    (folder / f".tmp-{path_of(tmp_path, records[0]).name}").write_bytes(b"half")
    (folder / "notes.txt").write_text("not a block")
    (folder.parent / "mine").mkdir()

    with opened(tmp_path, events=events) as (store, _):
        assert read(store, records) == records
        assert sorted(os.listdir(folder)) == [path_of(tmp_path, records[0]).name]
        assert (folder.parent / "mine").is_dir(), "what has no name of ours is not touched"
        assert events.kinds() == ["quarantine"]


def test_file_in_the_folder_of_another_model_is_not_adopted(tmp_path: Path) -> None:
    with opened(tmp_path, space=OTHER_MODEL) as (store, _):
        write_all(store, chain(1, space=OTHER_MODEL))
    record = chain(1, space=OTHER_MODEL)[0]
    target = path_of(tmp_path, record, SPACE)
    target.parent.mkdir(parents=True)
    shutil.copy(path_of(tmp_path, record, OTHER_MODEL), target)
    (tmp_path / "index.db").unlink()

    with opened(tmp_path) as (store, _):
        assert store.num_quarantined == 1
        assert read(store, [record]) == []


def test_file_under_a_wrong_name_is_not_adopted(tmp_path: Path) -> None:
    first, second = chain(2)
    with opened(tmp_path) as (store, _):
        write_all(store, [first])
    path_of(tmp_path, second).parent.mkdir(exist_ok=True)
    shutil.move(path_of(tmp_path, first), path_of(tmp_path, second))

    with opened(tmp_path) as (store, _):
        assert len(store.index) == 0
        assert store.num_quarantined == 1


def test_missing_files_cut_the_agents_that_had_them(tmp_path: Path) -> None:
    records = chain(4, num_tail_tokens=8)
    with opened(tmp_path) as (store, _):
        write_all(store, records)
        store.save_agent(agent("repo-a", records))
    path_of(tmp_path, records[2]).unlink()

    for _ in range(2):
        with opened(tmp_path) as (store, agents):
            assert agents["repo-a"] == agent("repo-a", records).cut(2, 512)
            assert len(store.index) == 4


# Room


def test_the_oldest_go_first_and_tails_before_heads(tmp_path: Path) -> None:
    clock, events = Clock(), Events()
    old, new = chain(3, seed=1), chain(3, seed=2)
    size = file_bytes(old[0], tmp_path)
    with opened(tmp_path / "d", budget_bytes=6 * size + size // 2, clock=clock, events=events) as (
        store,
        _,
    ):
        for records in (old, new):
            clock.now += 10
            write_all(store, records)
            store.save_agent(agent(f"agent-{clock.now}", records))
        clock.now += 10
        write_all(store, chain(1, seed=3))

        assert read(store, old) == old[:2]
        assert read(store, new) == new
        assert store.num_evicted == 1
        assert events.kinds() == ["evict"]


@pytest.mark.parametrize("how", ["read", "touch", "write", "save"])
def test_what_was_used_is_kept(tmp_path: Path, how: str) -> None:
    clock = Clock()
    first, second = chain(1, seed=1), chain(1, seed=2)
    size = file_bytes(first[0], tmp_path)
    budget_bytes = 2 * size + size // 2
    with opened(tmp_path / "d", budget_bytes=budget_bytes, clock=clock) as (store, _):
        for records in (first, second):
            clock.now += 1
            write_all(store, records)
        clock.now += 1
        uses: dict[str, Callable[[], object]] = {
            "read": lambda: read(store, first),
            "touch": lambda: store.touch(hashes(first)),
            "write": lambda: write_all(store, first),
            "save": lambda: store.save_agent(agent("repo-a", first)),
        }
        uses[how]()
        clock.now += 1
        write_all(store, chain(1, seed=3))

        assert read(store, first) == first
        assert read(store, second) == []


def test_blocks_that_nobody_refers_to_go_before_older_ones(tmp_path: Path) -> None:
    clock = Clock()
    held, free = chain(2, seed=1), chain(2, seed=2)
    size = file_bytes(held[0], tmp_path)
    with opened(tmp_path / "d", budget_bytes=4 * size + size // 2, clock=clock) as (store, _):
        write_all(store, held)
        store.save_agent(agent("repo-a", held))
        clock.now += 1
        write_all(store, free)
        clock.now += FRESH_S
        write_all(store, chain(1, seed=3))

        assert read(store, held) == held
        assert read(store, free) == free[:1]


def test_blocks_of_a_turn_in_progress_are_not_the_first_to_go(tmp_path: Path) -> None:
    clock = Clock()
    held, fresh = chain(2, seed=1), chain(3, seed=2)
    size = file_bytes(held[0], tmp_path)
    with opened(tmp_path / "d", budget_bytes=4 * size + size // 2, clock=clock) as (store, _):
        write_all(store, held)
        store.save_agent(agent("repo-a", held))
        clock.now += FRESH_S + 1
        write_all(store, fresh)

        assert read(store, fresh) == fresh
        assert read(store, held) == held[:1]


def test_pinned_agents_keep_their_blocks_whatever_it_costs(tmp_path: Path) -> None:
    clock, events = Clock(), Events()
    pinned, other = chain(3, seed=1), chain(1, seed=2)
    size = file_bytes(pinned[0], tmp_path)
    budget_bytes = 3 * size + size // 2
    folder = tmp_path / "d"
    with opened(folder, budget_bytes=budget_bytes, clock=clock, events=events) as (store, _):
        write_all(store, pinned)
        store.save_agent(agent("repo-a", pinned, pinned=True))
        clock.now += 10 * FRESH_S

        assert not store.write_block(other[0])
        assert not store.write_block(other[0])

        assert read(store, pinned) == pinned
        assert len(events.texts("disk")) == 1
        store.save_agent(agent("repo-a", pinned))
        assert store.write_block(other[0])
        assert read(store, other) == other


def test_a_smaller_budget_holds_from_the_next_start_on(tmp_path: Path) -> None:
    records = chain(6)
    size = file_bytes(records[0], tmp_path)
    with opened(tmp_path / "d") as (store, _):
        write_all(store, records)
        store.save_agent(agent("repo-a", records))
    with opened(tmp_path / "d", budget_bytes=3 * size) as (store, _):
        assert store.index.num_bytes <= 3 * size
        assert read(store, records) == records[: len(store.index)]
    with opened(tmp_path / "d") as (store, agents):
        assert len(agents["repo-a"].block_hashes) == len(store.index) >= 1


def test_the_budget_counts_the_blocks_of_all_models(tmp_path: Path) -> None:
    clock = Clock()
    theirs = chain(3, space=OTHER_MODEL)
    size = file_bytes(theirs[0], tmp_path)
    with opened(tmp_path / "d", space=OTHER_MODEL, clock=clock) as (store, _):
        write_all(store, theirs)
    clock.now += 10 * FRESH_S
    with opened(tmp_path / "d", budget_bytes=4 * size + 100, clock=clock) as (store, _):
        write_all(store, chain(3))
        assert read(store, chain(3)) == chain(3)
        assert store.index.num_bytes <= 4 * size + 100


def test_room_is_kept_fast_with_many_blocks(tmp_path: Path) -> None:
    """Removing half of 10 000 blocks ranks them once, not once per block."""
    clock = Clock()
    with opened(tmp_path, clock=clock) as (store, _):
        parent = SPACE.root_hash
        record = block(parent, 0)
        write_all(store, [record])
        entry = store.index.entries[record.block_hash]
        for number in range(10_000):
            name = number.to_bytes(32, "big")
            store.index.add(name, type(entry)(SPACE.name, name[::-1], 256, 1000, clock.now))

        victims = store.index.victims(5_000_000, 0, clock.now)

        assert len(victims) == 5_000
        for number in range(10_000):
            store.index.drop(number.to_bytes(32, "big"))
