"""The tier as the engine sees it: nothing waits, nothing raises, nothing is lost in silence."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from engine.cache.disk import durable
from engine.cache.disk.records import AgentRecord, BlockRecord
from engine.cache.disk.tier import DiskLimits
from engine.errors import DataFolderInUseError
from tests.cache.disk.blocks import PLENTY, SPACE, agent, block, chain, hashes, path_of
from tests.cache.disk.tier_setup import LIMITS, WAIT_S, Gate, Setup, until


def test_what_was_saved_is_there_after_a_restart(setup: Setup) -> None:
    records = chain(3, num_tail_tokens=17)
    for record in records:
        assert setup.tier.write(record)
    assert setup.save(agent("repo-a", records)) == agent("repo-a", records)
    assert sum(setup.tier.stats.write_durations.counts) == 4
    assert 0 < setup.tier.stats.write_durations.total_s < WAIT_S
    assert setup.tier.close(flush_s=5.0)

    again = Setup(setup.folder, LIMITS)
    assert again.tier.open() == (agent("repo-a", records),)
    assert all(again.tier.has(block_hash) for block_hash in hashes(records))
    assert again.read(records) == records
    stats = again.tier.stats
    assert (stats.is_on, stats.num_blocks, stats.num_pending) == (True, 4, 0)
    assert stats.bytes_used > sum(record.num_bytes for record in records)
    assert again.tier.close(flush_s=5.0)
    assert again.events == setup.events == []


def test_a_saved_agent_is_durable_when_it_says_so(setup: Setup, tmp_path: Path) -> None:
    """What a crash right after the answer would leave is a copy of the folder."""
    records = chain(2, num_tail_tokens=3)
    copies: Future[Path] = Future()

    def copy_folder(_: AgentRecord) -> None:
        target = tmp_path / "crashed"
        os.system(f"cp -a {setup.folder} {target}")
        copies.set_result(target)

    for record in records:
        setup.tier.write(record)
    setup.tier.save_agent(agent("repo-a", records), copy_folder)
    crashed = Setup(copies.result(WAIT_S), LIMITS)

    assert crashed.tier.open() == (agent("repo-a", records),)
    assert crashed.read(records) == records
    crashed.tier.close(1.0)


def test_a_block_on_its_way_can_be_read_and_is_not_taken_twice(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = chain(3)
    setup.write(records[:1])
    gate = Gate(monkeypatch, "sync")
    for record in records[1:]:
        assert setup.tier.write(record)
        assert setup.tier.write(record)
    answer: Future[tuple[BlockRecord, ...]] = Future()

    assert setup.tier.stats.num_pending == 2
    assert setup.tier.can_read(records[2].block_hash)
    assert not setup.tier.has(records[2].block_hash)
    setup.tier.read(hashes(records), answer.set_result)
    gate.open()

    assert list(answer.result(WAIT_S)) == records
    until(lambda: setup.tier.stats.num_pending == 0)
    assert setup.tier.stats.pending_bytes == 0


def test_bytes_in_flight_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = chain(4)
    one = records[0].num_bytes
    limits = DiskLimits(budget_bytes=PLENTY, max_pending_bytes=2 * one)
    setup = Setup(tmp_path, limits)
    setup.tier.open()
    gate = Gate(monkeypatch, "sync")

    assert [setup.tier.write(record) for record in records] == [True, True, False, False]
    assert setup.tier.stats.pending_bytes == 2 * one

    gate.open()
    until(lambda: setup.tier.has(records[1].block_hash))
    setup.write(records[2:])
    assert setup.read(records) == records
    setup.tier.close(1.0)


def test_reads_go_before_writes(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    records = chain(6)
    setup.write(records[:1])
    gate = Gate(monkeypatch, "sync")
    for record in records[1:]:
        setup.tier.write(record)
    assert gate.reached.wait(WAIT_S)
    seen: Future[int] = Future()
    setup.tier.read(
        [records[0].block_hash], lambda _: seen.set_result(setup.tier.stats.num_pending)
    )
    gate.open()

    assert seen.result(WAIT_S) >= 4


def test_nothing_waits_for_the_disk(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "sync")
    setup.tier.write(block(SPACE.root_hash, 0))
    assert gate.reached.wait(WAIT_S)
    records = chain(20, seed=9)
    began_s = time.monotonic()
    for record in records:
        setup.tier.write(record)
        setup.tier.has(record.block_hash)
        setup.tier.touch(hashes(records))
    setup.tier.read(hashes(records), lambda _: None)
    setup.tier.save_agent(agent("repo-a", records))
    setup.tier.forget_agent("repo-b")
    _ = setup.tier.stats
    assert time.monotonic() - began_s < 1.0
    gate.open()


def test_only_the_newest_state_of_an_agent_waits(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = chain(3)
    gate = Gate(monkeypatch, "sync")
    answers: list[AgentRecord] = []
    last: Future[AgentRecord] = Future()
    setup.tier.write(records[0])
    assert gate.reached.wait(WAIT_S)
    setup.tier.save_agent(agent("repo-a", records[:1]), answers.append)
    for record in records[1:]:
        setup.tier.write(record)
    setup.tier.save_agent(agent("repo-a", records), last.set_result)
    gate.open()

    assert last.result(WAIT_S) == agent("repo-a", records)
    assert answers == []


def test_forgetting_takes_the_place_of_saving(setup: Setup) -> None:
    setup.write(chain(1))
    setup.save(agent("repo-a", chain(1)))
    setup.tier.forget_agent("repo-a")
    assert setup.tier.close(5.0)

    again = Setup(setup.folder, LIMITS)
    assert again.tier.open() == ()
    again.tier.close(1.0)


def test_blocks_touched_in_memory_stay_on_disk(tmp_path: Path) -> None:
    first, second, third = (block(SPACE.root_hash, seed) for seed in range(3))
    setup = Setup(tmp_path, DiskLimits(budget_bytes=first.num_bytes * 3))
    setup.tier.open()
    setup.write([first, second])
    setup.tier.touch([first.block_hash])
    assert setup.tier.write(third)
    until(lambda: setup.tier.has(third.block_hash))

    assert setup.tier.has(first.block_hash)
    assert not setup.tier.has(second.block_hash)
    assert setup.tier.stats.num_evicted == 1
    setup.tier.close(1.0)


def test_closing_writes_what_waits(setup: Setup) -> None:
    records = chain(20)
    for record in records:
        assert setup.tier.write(record)
    setup.tier.save_agent(agent("repo-a", records))

    assert setup.tier.close(flush_s=WAIT_S)

    again = Setup(setup.folder, LIMITS)
    assert again.tier.open() == (agent("repo-a", records),)
    assert again.read(records) == records
    again.tier.close(1.0)


def test_closing_keeps_to_its_time(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real = durable.sync

    def sync_slowly(fd: int) -> None:
        time.sleep(0.1)
        real(fd)

    monkeypatch.setattr(durable, "sync", sync_slowly)
    records = chain(50)
    for record in records:
        assert setup.tier.write(record)
    began_s = time.monotonic()

    assert not setup.tier.close(flush_s=0.3)

    assert time.monotonic() - began_s < 3.0
    again = Setup(setup.folder, LIMITS)
    again.tier.open()
    found = again.read(records)
    assert found == records[: len(found)]
    again.tier.close(1.0)


def test_a_closed_tier_answers_and_takes_nothing(setup: Setup) -> None:
    setup.write(chain(1))
    setup.tier.close(1.0)

    assert not setup.tier.write(chain(2)[1])
    assert setup.read(chain(1)) == []
    assert setup.tier.stats.reason_off == "closed"
    assert setup.tier.close(1.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_the_thread_leaves_nobody_waiting(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(durable, "sync", fail)
    setup.tier.write(chain(1)[0])
    until(lambda: setup.tier.stats.reason_off != "")

    assert setup.read(chain(1)) == []
    assert not setup.tier.write(chain(2)[1])
    assert "ZeroDivisionError" in setup.events.texts("disk")[0]


def test_second_tier_on_a_folder_is_refused(setup: Setup) -> None:
    second = Setup(setup.folder, LIMITS)

    with pytest.raises(DataFolderInUseError) as caught:
        second.tier.open()

    assert str(os.getpid()) in str(caught.value)
    assert "STOKER_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert second.events == []
    assert not second.tier.write(chain(1)[0])
    setup.write(chain(1))
    assert path_of(setup.folder, chain(1)[0]).exists()
    setup.tier.close(1.0)
    third = Setup(setup.folder, LIMITS)
    third.tier.open()
    assert third.read(chain(1)) == chain(1)
    third.tier.close(1.0)
