"""The tier as the engine sees it: nothing waits, nothing raises, nothing is lost in silence."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from engine.cache.disk import durable, folder_lock
from engine.cache.disk.index_database import IndexDatabase
from engine.cache.disk.records import AgentRecord, BlockRecord
from engine.cache.disk.tier import DiskLimits, DiskTier
from engine.errors import DataFolderInUseError
from tests.cache.disk.blocks import PLENTY, SPACE, Events, agent, block, chain, hashes, path_of

WAIT_S = 20.0


class Setup:
    """A tier on a folder, and what it said."""

    def __init__(self, folder: Path, limits: DiskLimits) -> None:
        self.folder = folder
        self.events = Events()
        self.tier = DiskTier(folder, SPACE, limits, self.events)

    def read(self, records: Sequence[BlockRecord]) -> list[BlockRecord]:
        """Waits for blocks."""
        answer: Future[tuple[BlockRecord, ...]] = Future()
        self.tier.read(hashes(records), answer.set_result)
        return list(answer.result(WAIT_S))

    def save(self, record: AgentRecord) -> AgentRecord:
        """Waits until an agent is saved."""
        answer: Future[AgentRecord] = Future()
        self.tier.save_agent(record, answer.set_result)
        return answer.result(WAIT_S)

    def write(self, records: Sequence[BlockRecord]) -> None:
        """Offers blocks until they are on disk."""
        for record in records:
            assert self.tier.write(record)
        until(lambda: all(self.tier.has(block_hash) for block_hash in hashes(records)))


def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


LIMITS = DiskLimits(budget_bytes=PLENTY, retry_s=0.02, max_retry_s=0.05)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    """An open, empty tier."""
    setup = Setup(tmp_path / "home", LIMITS)
    assert setup.tier.open() == ()
    yield setup
    setup.tier.close(flush_s=5.0)


class Gate:
    """Holds back the call it stands for until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
        module, name = durable, target
        real = getattr(module, name)
        self.reached = threading.Event()
        self._open = threading.Event()

        def wait_and_call(*arguments: object) -> object:
            self.reached.set()
            assert self._open.wait(WAIT_S)
            return real(*arguments)

        monkeypatch.setattr(module, name, wait_and_call)

    def open(self) -> None:
        """Lets calls through."""
        self._open.set()


def test_what_was_saved_is_there_after_a_restart(setup: Setup) -> None:
    records = chain(3, num_tail_tokens=17)
    for record in records:
        assert setup.tier.write(record)
    assert setup.save(agent("repo-a", records)) == agent("repo-a", records)
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


# A disk that refuses


REFUSALS = [
    (durable, "sync", errno.EIO),
    (os, "writev", errno.ENOSPC),
    (os, "writev", errno.EDQUOT),
    (os, "rename", errno.EACCES),
    (os, "mkdir", errno.EROFS),
]


@pytest.mark.parametrize(("module", "name", "number"), REFUSALS)
def test_refusal_is_one_event_and_ends_by_itself(
    setup: Setup, module: object, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = chain(3)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(module, name, refuse)
        assert setup.tier.write(records[0])
        until(lambda: not setup.tier.stats.is_on)
        assert os.strerror(number) in setup.tier.stats.reason_off
        assert not setup.tier.write(records[1]), "it stays with the caller"
        assert setup.read(records[:1]) == records[:1], "what waits is still in memory"
        time.sleep(0.2)
        assert setup.events.kinds() == ["disk"]

    until(lambda: setup.tier.stats.is_on)
    assert setup.tier.has(records[0].block_hash)
    setup.write(records)
    assert setup.save(agent("repo-a", records)) == agent("repo-a", records)
    assert setup.events.kinds() == ["disk", "disk"]
    assert temps(setup.folder) == []


def temps(folder: Path) -> list[Path]:
    """Files of writes that did not end."""
    return list(folder.rglob(f"{durable.TEMP_PREFIX}*"))


def test_short_writes_are_continued(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_little(fd: int, buffers: Sequence[memoryview]) -> int:
        return os.write(fd, buffers[0][:1000])

    monkeypatch.setattr(os, "writev", write_little)
    setup.write(chain(1))
    assert setup.read(chain(1)) == chain(1)


def test_an_index_that_refuses_is_retried_and_nothing_is_acknowledged_before(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = chain(2)
    setup.write(records)
    answer: Future[AgentRecord] = Future()

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(IndexDatabase, "save", refuse)
        setup.tier.save_agent(agent("repo-a", records), answer.set_result)
        until(lambda: not setup.tier.stats.is_on)
        time.sleep(0.1)
        assert not answer.done()

    assert answer.result(WAIT_S) == agent("repo-a", records)
    until(lambda: setup.tier.stats.is_on)
    assert setup.events.kinds() == ["disk", "disk"]


def test_a_folder_that_cannot_be_opened_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = chain(2)
    first = Setup(tmp_path, LIMITS)
    first.tier.open()
    first.write(records)
    first.tier.close(5.0)
    setup = Setup(tmp_path, LIMITS)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(folder_lock.FolderLock, "acquire", refuse)
        assert setup.tier.open() == ()
        assert not setup.tier.stats.is_on
        assert not setup.tier.write(records[0])
        assert setup.read(records) == []

    until(lambda: setup.tier.stats.is_on)
    assert setup.read(records) == records
    assert setup.events.kinds() == ["disk", "disk"]
    setup.tier.close(1.0)


def test_closing_while_the_disk_refuses_is_quick_and_honest(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", refuse)
    setup.tier.write(chain(1)[0])
    until(lambda: not setup.tier.stats.is_on)
    began_s = time.monotonic()

    assert not setup.tier.close(flush_s=30.0)

    assert time.monotonic() - began_s < 5.0


# The end


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
