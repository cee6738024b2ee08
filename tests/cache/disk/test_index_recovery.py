"""An index that is lost, damaged or behind, and files that nobody expected."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cache.disk.block_index import BlockIndex
from engine.cache.disk.index_database import IndexDatabase
from tests.cache.disk.blocks import (
    OTHER_MODEL,
    SPACE,
    Events,
    agent,
    chain,
    hashes,
    opened,
    path_of,
    read,
    replace_by_link,
    write_all,
)


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
