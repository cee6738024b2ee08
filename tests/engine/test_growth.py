"""Some hundred turns leave nothing behind: memory, threads and open files stay as they are."""

from __future__ import annotations

import gc
import logging
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.conftest import serving
from tests.api.word_engine import Script
from tests.cache.disk.tier_setup import until
from tests.engine.disk_core import DiskCore
from tests.engine.turns import submit

NUM_TURNS = 150
NUM_AGENTS = 4
"""So few that the first half fills the history of turns of every one."""
MAX_BYTES_PER_TURN = 400
"""Less than a turn's request or its line in any list has, more than allocators differ by."""


@pytest.fixture(autouse=True)
def traced_memory() -> Iterator[None]:
    # What pytest keeps of the log to show it would count as well.
    logging.disable(logging.CRITICAL)
    tracemalloc.start()
    yield
    tracemalloc.stop()
    logging.disable(logging.NOTSET)


def growth_bytes(turn: Callable[[int], None], settle: Callable[[], None]) -> float:
    """Bytes that each turn leaves, once all that is bounded is full.

    Args:
        turn: Does the turn of that number.
        settle: Waits until what the turns have left to be done is done.
    """
    sizes = []
    for half in range(2):
        for number in range(half * NUM_TURNS, (half + 1) * NUM_TURNS):
            turn(number)
        settle()
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
    return (sizes[1] - sizes[0]) / NUM_TURNS


def num_open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_turns_on_a_core_with_a_disk_leave_nothing(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path, num_blocks=12, disk_budget_bytes=100_000)

    def turn(number: int) -> None:
        name = f"agent-{number % NUM_AGENTS}"
        length = 100 + 97 * (number % 7)
        submit(disk.core, name, [number % 50, *range(length)], max_tokens=3)
        disk.run()

    def settle() -> None:
        disk.do_posted()
        until(lambda: disk.persistence.tier.stats.num_pending == 0)
        disk.do_posted(0.5)
        disk.telemetry.row(1e9)  # nobody else reads its rates here, and they are kept until then

    grown = growth_bytes(turn, settle)
    num_threads = threading.active_count()
    disk.close()
    assert grown < MAX_BYTES_PER_TURN
    assert threading.active_count() == num_threads - 1


def test_requests_leave_nothing_in_the_server() -> None:
    with serving(Script(step_s=0.0)) as served:

        def turn(number: int) -> None:
            body = {
                "max_tokens": 9,
                "stream": bool(number % 2),
                "messages": [{"role": "user", "content": f"turn {number:05}"}],
            }
            headers = {"X-Agent-ID": f"agent-{number % NUM_AGENTS}"}
            assert served.http.post("/v1/messages", json=body, headers=headers).is_success
            served.engine.commands.clear()
            served.engine.requests.clear()

        turn(0)
        num_threads, num_files = threading.active_count(), num_open_files()
        assert growth_bytes(turn, lambda: None) < MAX_BYTES_PER_TURN
        assert threading.active_count() <= num_threads + 4
        # Libraries and other tests' threads open and close a few of their own.
        assert num_open_files() <= num_files + 4
