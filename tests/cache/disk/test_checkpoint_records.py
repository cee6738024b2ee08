"""Checkpoints, turns and namespaces on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.cache.block import BLOCK_TOKENS
from engine.cache.checkpoint import Place
from engine.cache.disk.block_file import decode, encode
from engine.cache.disk.block_index import FRESH_S
from engine.cache.disk.index_database import DATABASE_FILES
from engine.cache.disk.records import AgentRecord, BlockRecord
from engine.cache.turn_history import TurnMark
from tests.cache.disk.blocks import (
    SPACE,
    Clock,
    agent,
    block,
    chain,
    file_bytes,
    hashes,
    opened,
    read,
    write_all,
)


def checkpoint(after: BlockRecord, num_tokens: int = 0, seed: int = 9) -> BlockRecord:
    return block(after.block_hash, seed, num_tokens)


def with_turns(record: AgentRecord, *ends: BlockRecord, prompt_end: bytes = b"") -> AgentRecord:
    """The agent with a turn that ended at each of those checkpoints."""
    places = (Place(300, prompt_end),) if prompt_end else ()
    marks = [
        TurnMark(
            number=number,
            num_tokens=BLOCK_TOKENS + len(end.token_ids),
            ttft_s=0.5,
            miss="evicted",
            last_hash=end.parent_hash,
            end_hash=end.block_hash,
            has_checkpoint=True,
            prompt_places=places,
        )
        for number, end in enumerate(ends, 1)
    ]
    return replace(record, turns=tuple(marks))


def test_a_checkpoint_without_rows_of_its_own_comes_back(tmp_path: Path) -> None:
    full = chain(1)
    end = checkpoint(full[0])
    assert end.token_ids == ()
    assert decode(b"".join(encode(end, SPACE)))[0] == end
    with opened(tmp_path / "d") as (store, _):
        write_all(store, [*full, end])
        store.save_agent(agent("a", [*full, end]))
    with opened(tmp_path / "d") as (store, agents):
        assert read(store, [*full, end]) == [*full, end]
        assert agents["a"].num_tokens == BLOCK_TOKENS
        assert len(agents["a"].block_hashes) == 2


def test_it_is_found_again_from_its_file_alone(tmp_path: Path) -> None:
    full = chain(1)
    end = checkpoint(full[0])
    with opened(tmp_path / "d") as (store, _):
        write_all(store, [*full, end])
    for name in DATABASE_FILES:
        (tmp_path / "d" / name).unlink(missing_ok=True)
    with opened(tmp_path / "d") as (store, _):
        assert read(store, [*full, end]) == [*full, end]


def test_turns_and_namespaces_survive(tmp_path: Path) -> None:
    full = chain(1)
    end = checkpoint(full[0], 40)
    with opened(tmp_path / "d") as (store, _):
        write_all(store, [*full, end])
        record = with_turns(agent("a", [*full, end]), end, prompt_end=b"x" * 32)
        store.save_agent(record)
        # Another's chain begins elsewhere, so nothing of this one fits it.
        store.save_agent(replace(record, namespace="alice"))
        store.save_agent(replace(record, namespace="bob"))
        store.forget_agent("a", namespace="bob")
    with opened(tmp_path / "d") as (store, _):
        found = {each.namespace: each for each in store.index.agents.values()}
        assert found.keys() == {"", "alice"}
        assert found[""] == record
        assert found["alice"].block_hashes == ()
        assert found["alice"].turns == record.turns


def test_an_end_that_a_turn_marks_is_kept_and_another_is_not(tmp_path: Path) -> None:
    full = chain(1)
    ends = [checkpoint(full[0], 10 + n) for n in range(3)]
    with opened(tmp_path / "d") as (store, _):
        write_all(store, [*full, *ends])
        store.save_agent(with_turns(agent("a", [*full, ends[0]]), ends[0], prompt_end=b"p" * 32))
        store.save_agent(with_turns(agent("a", [*full, ends[1]]), ends[0], ends[1]))
        store.save()
        assert read(store, [ends[0]]) == [ends[0]]
        store.save_agent(with_turns(agent("a", [*full, ends[2]]), ends[1], ends[2]))
        store.save()
        assert read(store, [ends[0]]) == []
        assert read(store, [ends[1]]) == [ends[1]]


def test_ends_of_past_turns_go_before_what_agents_would_go_on_from(tmp_path: Path) -> None:
    clock = Clock()
    full, others = chain(1, seed=1), chain(2, seed=2)
    past, end = checkpoint(full[0], BLOCK_TOKENS - 1), checkpoint(full[0], 3)
    size = file_bytes(others[0], tmp_path)
    with opened(tmp_path / "d", budget_bytes=5 * size, clock=clock) as (store, _):
        write_all(store, others)
        store.save_agent(agent("older", others))
        clock.now += 1
        write_all(store, [*full, past, end])
        store.save_agent(with_turns(agent("newer", [*full, end]), past, end))
        clock.now += FRESH_S + 1
        write_all(store, chain(1, seed=3))
        assert read(store, others) == others
        assert read(store, [*full, end]) == [*full, end]
        assert past.block_hash not in store.index
        assert set(hashes(others)) <= store.index.entries.keys()
