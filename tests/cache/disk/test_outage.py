"""A disk that refuses: one event, nothing lost, and it comes back by itself."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from engine.cache.disk import durable, folder_lock
from engine.cache.disk.index_database import IndexDatabase
from engine.cache.disk.records import AgentRecord
from tests.cache.disk.blocks import agent, chain
from tests.cache.disk.tier_setup import LIMITS, WAIT_S, Setup, until

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


def test_no_memory_to_write_is_an_outage_too(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    records = chain(2)

    def find_no_memory(*_: object, **__: object) -> int:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", find_no_memory)
        assert setup.tier.write(records[0])
        until(lambda: not setup.tier.stats.is_on)
        assert setup.tier.stats.reason_off == "no memory to write"
    until(lambda: setup.tier.stats.is_on)
    setup.write(records)
    assert setup.read(records) == records
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


def test_a_folder_that_opens_late_tells_its_agents_once(tmp_path: Path) -> None:
    """With a real folder: a file is in its way until it is taken away."""
    folder = tmp_path / "data"
    first = Setup(folder, LIMITS)
    first.tier.open()
    records = chain(2)
    first.write(records)
    first.save(agent("repo-a", records))
    first.tier.close(5.0)
    folder.rename(tmp_path / "away")
    folder.write_text("in the way")
    found: list[tuple[AgentRecord, ...]] = []
    setup = Setup(folder, LIMITS)
    setup.tier.on_recovered = found.append
    assert setup.tier.open() == ()
    assert not setup.tier.stats.is_on

    folder.unlink()
    (tmp_path / "away").rename(folder)

    until(lambda: setup.tier.stats.is_on)
    until(lambda: bool(found))
    assert found == [(agent("repo-a", records),)]
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
