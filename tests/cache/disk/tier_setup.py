"""A tier on a folder, and ways to hold it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from engine.cache.disk import durable
from engine.cache.disk.records import AgentRecord, BlockRecord
from engine.cache.disk.tier import DiskLimits, DiskTier
from tests.cache.disk.blocks import PLENTY, SPACE, Events, hashes

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
