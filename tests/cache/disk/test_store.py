"""What the store keeps."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.cache.disk.blocks import (
    OTHER_FORMAT,
    OTHER_MODEL,
    SPACE,
    Events,
    agent,
    block,
    chain,
    hashes,
    opened,
    path_of,
    read,
    write_all,
)


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


def test_what_is_unwanted_goes_unless_others_need_it(tmp_path: Path) -> None:
    """Two agents share a beginning."""
    shared = chain(2)
    own = [*shared, block(shared[-1].block_hash, 5)]
    own.append(block(own[2].block_hash, 6, 9))
    others = [*shared, block(shared[-1].block_hash, 7)]
    with opened(tmp_path) as (store, _):
        write_all(store, [*own, others[2]])
        store.save_agent(agent("repo-a", own))
        store.save_agent(agent("repo-b", others))
        store.save()

        store.forget_agent("repo-a", hashes(own))
        assert path_of(tmp_path, own[2]).exists(), "the saved row names it still"
        store.save()

        assert not path_of(tmp_path, own[2]).exists()
        assert not path_of(tmp_path, own[3]).exists()
        assert read(store, others) == others
    with opened(tmp_path) as (store, agents):
        assert agents == {"repo-b": agent("repo-b", others)}
        assert len(store.index) == 3


def test_a_block_that_something_follows_is_not_removed(tmp_path: Path) -> None:
    records = chain(3)
    with opened(tmp_path) as (store, _):
        write_all(store, records)
        store.save_agent(agent("repo-a", records[:2]))
        store.save()
        store.forget_agent("repo-a", hashes(records[:2]))
        store.save()
        assert read(store, records) == records
