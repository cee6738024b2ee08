"""What goes first when room on disk is short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cache.disk.block_index import FRESH_S
from tests.cache.disk.blocks import (
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
    read,
    write_all,
)


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
