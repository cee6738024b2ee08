from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from engine import thread_exit
from engine.thread_exit import await_thread_exit


def joined_thread() -> threading.Thread:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    return thread


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="join itself waits there")
def test_waits_until_the_system_lists_the_thread_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = joined_thread()
    task = tmp_path / str(thread.native_id)
    task.mkdir()
    monkeypatch.setattr(thread_exit, "_TASKS", tmp_path)
    timer = threading.Timer(0.2, task.rmdir)
    began_s = time.monotonic()
    timer.start()

    await_thread_exit(thread)

    assert 0.15 < time.monotonic() - began_s < 1.5
    timer.join()


def test_thread_that_is_gone_costs_nothing() -> None:
    thread = joined_thread()
    time.sleep(0.05)
    began_s = time.monotonic()

    await_thread_exit(thread)

    assert time.monotonic() - began_s < 0.1
