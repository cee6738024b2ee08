"""A cache that comes back block by block, while its holder loses what came before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.sequence import Sequence
from tests.engine.counting_model import continuation
from tests.engine.disk_core import DiskCore
from tests.engine.turns import Turn, check, submit

PROMPT = [(i * 31) % 997 for i in range(1100)]
NUM_BLOCKS = 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCore]:
    """A core whose only agent is on disk and not in memory."""
    disk = DiskCore(tmp_path)
    submit(disk.core, "a", PROMPT)
    disk.run()
    disk.await_saved("a")
    disk.core.actions.evict("a")
    yield disk
    disk.close()


def returning(disk: DiskCore) -> tuple[Turn, Sequence]:
    """The agent's next turn, of which two blocks have come."""
    turn = submit(disk.core, "a", PROMPT)
    sequence = disk.core.scheduler.waiting[0]
    for _ in range(2):
        disk.do_next()
    assert len(sequence.restored) == 2
    assert sequence.is_restoring
    return turn, sequence


def arrive(disk: DiskCore, sequence: Sequence) -> None:
    """Lets come what is still to come."""
    while sequence.is_restoring:
        disk.do_next()


def finish(disk: DiskCore, turn: Turn) -> None:
    disk.run()
    assert turn.token_ids == continuation(PROMPT, 8)
    check(disk.core)


def test_blocks_are_in_place_before_the_last_one_was_read(disk: DiskCore) -> None:
    turn, sequence = returning(disk)
    assert disk.core.pool.num_referenced_blocks == 2
    arrive(disk, sequence)
    assert len(sequence.restored) == NUM_BLOCKS + 1
    finish(disk, turn)
    assert turn.num_cached_tokens == len(PROMPT) - 1


def test_nothing_follows_blocks_that_were_given_up_for_others(disk: DiskCore) -> None:
    turn, sequence = returning(disk)
    disk.core.pool.release_table(sequence.restored)
    sequence.restored = []
    arrive(disk, sequence)
    assert sequence.restored == []
    assert disk.core.pool.num_referenced_blocks == 0
    finish(disk, turn)


def test_nothing_follows_a_block_that_was_found_to_be_spoilt(disk: DiskCore) -> None:
    turn, sequence = returning(disk)
    disk.core.pool.release(sequence.restored.pop())
    arrive(disk, sequence)
    assert len(sequence.restored) == 1
    finish(disk, turn)


def test_what_came_for_a_turn_that_was_aborted_is_held_by_nobody(disk: DiskCore) -> None:
    turn, sequence = returning(disk)
    disk.core.abort(turn.request_id, "client went away")
    arrive(disk, sequence)
    assert disk.core.pool.num_referenced_blocks == 0
    check(disk.core)
