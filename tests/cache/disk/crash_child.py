"""A process that saves agents' turns until it is killed, by its parent or at a named point.

Arguments: folder, round, kill point (``none`` for the parent's), and the call at which to die.
Every acknowledged save is one line on standard output: agent number and turn.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from engine.cache.disk import durable
from engine.cache.disk.records import AgentRecord, BlockRecord
from engine.cache.disk.tier import DiskLimits, DiskTier
from engine.cache.disk.work_queue import AgentSaved
from tests.cache.disk.blocks import PLENTY, SPACE, Events, agent, chain

NUM_AGENTS = 3
NUM_TURNS = 30


def turn_blocks(round_number: int, agent_number: int, turn: int) -> list[BlockRecord]:
    """The table of an agent after a turn."""
    return chain(turn, seed=round_number * 100 + agent_number, num_tail_tokens=turn * 8)


def turn_agent(round_number: int, agent_number: int, turn: int) -> AgentRecord:
    """The agent after a turn."""
    blocks = turn_blocks(round_number, agent_number, turn)
    return agent(f"round-{round_number}-{agent_number}", blocks)


def die() -> None:
    """Ends without any clean-up, as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


class Countdown:
    """Dies at the given call."""

    def __init__(self, num_calls: int) -> None:
        self._num_left = num_calls

    def hit(self) -> None:
        self._num_left -= 1
        if self._num_left <= 0:
            die()


def before(countdown: Countdown, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, death before it."""

    def counted(*arguments: Any, **named: Any) -> Any:
        countdown.hit()
        return call(*arguments, **named)

    return counted


def after(countdown: Countdown, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, death after it."""

    def counted(*arguments: Any, **named: Any) -> Any:
        result = call(*arguments, **named)
        countdown.hit()
        return result

    return counted


def half_write(countdown: Countdown) -> Callable[..., int]:
    """Writes part of what it is given, dies there, or lets the rest follow."""

    def write(fd: int, buffers: Sequence[memoryview]) -> int:
        num_written = os.write(fd, buffers[0][: len(buffers[0]) // 2 + 1])
        countdown.hit()
        return num_written

    return write


def connect_to(point: str, countdown: Countdown) -> Callable[..., sqlite3.Connection]:
    """``sqlite3.connect`` with connections that die in the course of a commit."""
    real = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            if statement == "COMMIT" and point == "before-commit":
                countdown.hit()
            cursor = super().execute(statement, *arguments)
            if statement == "COMMIT" and point == "after-commit":
                countdown.hit()
            return cursor

        def executemany(self, statement: str, rows: Iterable[Any]) -> sqlite3.Cursor:
            if statement.startswith("REPLACE INTO agents") and point == "in-transaction":
                countdown.hit()
            return super().executemany(statement, rows)

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        return real(*arguments, factory=Connection, **named)

    return connect


def arm(point: str, num_calls: int) -> None:
    """Sets the point at which this process ends."""
    countdown = Countdown(num_calls)
    places: dict[str, tuple[object, str, Callable[..., Any]]] = {
        "before-sync": (durable, "sync", before(countdown, durable.sync)),
        "after-sync": (durable, "sync", after(countdown, durable.sync)),
        "before-rename": (os, "rename", before(countdown, os.rename)),
        "after-rename": (os, "rename", after(countdown, os.rename)),
        "half-written": (os, "writev", half_write(countdown)),
        "before-unlink": (os, "unlink", before(countdown, os.unlink)),
        "in-transaction": (sqlite3, "connect", connect_to(point, countdown)),
        "before-commit": (sqlite3, "connect", connect_to(point, countdown)),
        "after-commit": (sqlite3, "connect", connect_to(point, countdown)),
    }
    if point in places:
        module, name, double = places[point]
        setattr(module, name, double)


def acknowledge(agent_number: int, turn: int, done: threading.Event) -> AgentSaved:
    """Says on standard output that a turn was saved."""

    def say(_: AgentRecord) -> None:
        os.write(1, f"{agent_number} {turn}\n".encode())
        done.set()

    return say


def main() -> None:
    folder, round_number, point, num_calls = sys.argv[1:]
    tier = DiskTier(Path(folder), SPACE, DiskLimits(budget_bytes=PLENTY), Events())
    arm(point, int(num_calls))
    tier.open()
    for turn in range(1, NUM_TURNS + 1):
        for agent_number in range(NUM_AGENTS):
            for record in turn_blocks(int(round_number), agent_number, turn):
                tier.write(record)
            done = threading.Event()
            state = turn_agent(int(round_number), agent_number, turn)
            tier.save_agent(state, acknowledge(agent_number, turn, done))
        if turn % 2:
            # Not to run ahead of the disk: later saves would take the place of earlier ones.
            done.wait(60.0)
    tier.close(60.0)


if __name__ == "__main__":
    main()
