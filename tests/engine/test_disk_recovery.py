"""A disk that refuses for a while: what is known, and what is made up for, once it is back."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cache.disk import durable
from tests.engine.counting_model import continuation
from tests.engine.disk_core import LIMIT_S, DiskCore
from tests.engine.turns import Turn, check, submit


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def ask(disk: DiskCore, agent: str, tokens: list[int]) -> Turn:
    turn = submit(disk.core, agent, tokens)
    disk.run()
    assert turn.token_ids == continuation(tokens, 8)
    check(disk.core)
    return turn


def await_that(disk: DiskCore, holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s
        disk.do_posted(0.05)


def texts(disk: DiskCore) -> list[str]:
    return [event.text for event in disk.telemetry.events if event.kind == "disk"]


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """A data folder with two agents that has been moved away, with a file in its place."""
    folder = tmp_path / "data"
    first = DiskCore(folder)
    ask(first, "old", prompt(1, 700))
    # The clock of these cores is made up, that of what they save is not.
    time.sleep(0.1)
    ask(first, "new", prompt(2, 400))
    first.core.agents.pin(first.core.agents.get("new"), True)
    first.persistence.keep_facts(first.core.agents.get("new"))
    first.close()
    folder.rename(tmp_path / "away")
    folder.write_text("in the way")
    return folder


def come_back(folder: Path) -> None:
    folder.unlink()
    (folder.parent / "away").rename(folder)


def test_agents_of_a_folder_that_opens_late_are_announced(away: Path) -> None:
    disk = DiskCore(away)
    assert len(disk.core.agents) == 0
    assert not disk.persistence.tier.stats.is_on
    ask(disk, "meanwhile", prompt(3, 300))

    come_back(away)
    await_that(disk, lambda: len(disk.core.agents) == 3)

    # Behind those that were active meanwhile, the latest last.
    assert [agent.agent_id for agent in disk.core.agents] == ["old", "new", "meanwhile"]
    assert disk.core.agents.get("new").pinned
    assert "2 agents are back, with caches on disk" in texts(disk)
    turn = ask(disk, "old", prompt(1, 700))
    assert turn.num_cached_tokens == 699
    disk.close()


def test_an_agent_that_had_a_turn_meanwhile_stays_as_it_is(away: Path) -> None:
    disk = DiskCore(away)
    ask(disk, "old", prompt(5, 500))
    come_back(away)
    await_that(disk, lambda: len(disk.core.agents) == 2)
    assert "1 agent is back, with caches on disk" in texts(disk)
    assert disk.core.agents.get("old").prompt_token_ids == tuple(prompt(5, 500))
    disk.await_saved("old")
    disk.close()

    again = DiskCore(away)
    assert again.core.agents.get("old").num_last_prompt_tokens == 500
    again.close()


def test_what_was_refused_is_offered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = DiskCore(tmp_path)
    ask(disk, "before", prompt(1, 600))
    disk.await_saved("before")

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_durably", refuse)
        patch.setattr("engine.cache.disk.block_files.write_durably", refuse)
        ask(disk, "during", prompt(2, 600))
        await_that(disk, lambda: not disk.persistence.tier.stats.is_on)
        ask(disk, "later", prompt(3, 600))

    for name in ("during", "later"):
        disk.await_saved(name)
    disk.close()
    again = DiskCore(tmp_path)
    for number, name in enumerate(("before", "during", "later"), 1):
        assert ask(again, name, prompt(number, 600)).num_cached_tokens == 599
    again.close()
