"""What can be done to agents, as commands: nothing is lost by it that the disk could have had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest

from engine.agent_commands import (
    EvictAgent,
    EvictIdle,
    Eviction,
    ExportAgent,
    ExportedAgent,
    ForkAgent,
    ImportAgent,
    RemoveAgent,
    WarmAgent,
)
from engine.cache.disk import durable
from engine.commands import AgentCommand
from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    ArchiveError,
    ForeignArchiveError,
    InvalidRequestError,
    NoCacheError,
    NoDiskTierError,
    StokerError,
)
from tests.engine.counting_model import continuation, make_core
from tests.engine.disk_core import LIMIT_S, DiskCore
from tests.engine.turns import Turn, check, submit

T = TypeVar("T")


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def ask(disk: DiskCore, agent: str | None, tokens: list[int]) -> Turn:
    turn = submit(disk.core, agent, tokens)
    disk.run()
    assert turn.token_ids == continuation(turn.prompt, 8)
    check(disk.core)
    return turn


def obey(disk: DiskCore, command: AgentCommand, done: Future[T]) -> T:
    """Sends a command and waits for its answer, as the engine's thread would go on meanwhile."""
    disk.core.actions.obey(command)
    for _ in range(int(LIMIT_S / 0.02)):
        disk.core.actions.review()
        if done.done():
            break
        disk.do_posted(0.02)
    check(disk.core)
    return done.result(0)


def evict(disk: DiskCore, agent_id: str) -> Eviction:
    command = EvictAgent(agent_id=agent_id)
    return obey(disk, command, command.done)


def export(disk: DiskCore, agent_id: str, path: Path) -> ExportedAgent:
    command = ExportAgent(agent_id=agent_id, path=path)
    return obey(disk, command, command.done)


def take_in(disk: DiskCore, path: Path, agent_id: str | None = None) -> str:
    command = ImportAgent(path=path, agent_id=agent_id)
    return obey(disk, command, command.done).agent_id


def remove(disk: DiskCore, agent_id: str) -> int:
    command = RemoveAgent(agent_id=agent_id)
    return obey(disk, command, command.done)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCore]:
    disk = DiskCore(tmp_path / "home")
    yield disk
    disk.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[DiskCore]:
    """Another machine with the same model."""
    other = DiskCore(tmp_path / "other")
    yield other
    other.close()


class SlowDisk:
    """Holds the disk back until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._may_go_on = threading.Event()
        sync = durable.sync

        def wait(fd: int) -> None:
            assert self._may_go_on.wait(LIMIT_S)
            sync(fd)

        monkeypatch.setattr(durable, "sync", wait)

    def let_go(self) -> None:
        self._may_go_on.set()


def test_an_agent_evicted_right_after_its_turn_loses_nothing(disk: DiskCore) -> None:
    tokens = prompt(1, 700)
    ask(disk, "a", tokens)
    eviction = evict(disk, "a")
    assert eviction == Eviction(
        freed_bytes=3 * disk.core.pool.block_bytes, num_tokens=707, num_disk_tokens=707
    )
    disk.runner.num_prefilled = 0
    assert ask(disk, "a", tokens).num_cached_tokens == 699
    assert disk.runner.num_prefilled == 0
    assert any("707 of them on disk" in e.text for e in disk.telemetry.events)


def test_an_evicted_agent_can_be_warmed_at_once(disk: DiskCore) -> None:
    ask(disk, "a", prompt(1, 700))
    evict(disk, "a")
    command = WarmAgent(agent_id="a")
    assert obey(disk, command, command.done) == 707


def test_what_the_disk_cannot_take_at_once_is_offered_again_before_it_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskCore(tmp_path)
    # One block fills the queue, so the turn leaves three of four blocks to offer again.
    monkeypatch.setattr(disk.persistence.tier._queue, "_max_pending_bytes", 1)
    slow = SlowDisk(monkeypatch)
    ask(disk, "a", prompt(1, 1000))
    command = EvictAgent(agent_id="a")
    disk.core.actions.obey(command)
    assert not command.done.done()
    assert disk.core.agents.get("a").token_ids
    slow.let_go()
    eviction = obey(disk, EvictIdle(), command.done)
    assert (eviction.num_tokens, eviction.num_disk_tokens) == (1007, 1007)
    disk.close()


def test_a_turn_that_begins_meanwhile_keeps_its_cache(
    disk: DiskCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowDisk(monkeypatch)
    first = ask(disk, "a", prompt(1, 700))
    command = EvictAgent(agent_id="a")
    disk.core.actions.obey(command)
    submit(disk.core, "a", [*first.prompt, *first.token_ids, 5])
    with pytest.raises(AgentBusyError):
        obey(disk, EvictIdle(), command.done)
    slow.let_go()
    disk.run()


def test_a_disk_that_is_off_holds_no_eviction_up_and_the_loss_is_said(
    disk: DiskCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.writev", full)
    ask(disk, "a", prompt(1, 700))
    eviction = evict(disk, "a")
    assert (eviction.num_tokens, eviction.num_disk_tokens) == (707, 0)
    monkeypatch.undo()


def test_idle_agents_are_evicted_together(disk: DiskCore) -> None:
    ask(disk, "a", prompt(1, 300))
    ask(disk, "b", prompt(2, 300))
    ask(disk, "pinned", prompt(3, 300))
    disk.core.actions.pin("pinned", True)
    command = EvictIdle()
    eviction = obey(disk, command, command.done)
    assert (eviction.num_tokens, eviction.num_disk_tokens) == (614, 614)
    assert [a.agent_id for a in disk.core.agents if a.block_table] == ["pinned"]


def test_a_removed_agent_is_gone_everywhere_and_what_others_share_stays(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path)
    shared = prompt(1, 600)
    ask(disk, "a", [*shared, *prompt(5, 300)])
    ask(disk, "b", [*shared, *prompt(6, 20)])
    disk.await_saved("a")
    disk.await_saved("b")
    assert disk.persistence.tier.stats.num_blocks == 2 + 2 + 1
    assert remove(disk, "a") == 2 * disk.core.pool.block_bytes
    with pytest.raises(AgentNotFoundError):
        disk.core.agents.get("a")
    disk.close()
    names = {path.stem for path in (tmp_path / "kv").rglob("*.safetensors")}
    assert len(names) == 3

    disk = DiskCore(tmp_path)
    assert [agent.agent_id for agent in disk.core.agents] == ["b"]
    assert ask(disk, "b", [*shared, *prompt(6, 20)]).num_cached_tokens == 619
    assert ask(disk, "a", [*shared, *prompt(5, 300)]).num_cached_tokens == 512
    disk.close()


def test_replies_side_by_side_compute_their_prompt_once_and_the_copies_go_without_a_trace(
    disk: DiskCore,
) -> None:
    shared = prompt(1, 600)
    own, *copies = [submit(disk.core, name, shared, max_tokens=30) for name in ("a", "b", "c")]
    while not all(turn.token_ids for turn in (own, *copies)):
        disk.core.step()
    assert [turn.num_cached_tokens for turn in (own, *copies)] == [0, 512, 512]

    # A client that goes away: the abort and the removal follow each other at once.
    disk.core.abort(copies[0].request_id, "client went away")
    remove(disk, "b")
    disk.run()
    remove(disk, "c")
    check(disk.core)
    assert own.token_ids == continuation(own.prompt, 30)
    assert [agent.agent_id for agent in disk.core.agents] == ["a"]
    disk.await_saved("a")
    assert disk.persistence.tier.stats.num_blocks == 3


def test_a_busy_or_unknown_agent_is_neither_removed_nor_exported(
    disk: DiskCore, tmp_path: Path
) -> None:
    submit(disk.core, "a", prompt(1, 300))
    for act in (remove, lambda disk, name: export(disk, name, tmp_path / "x")):
        with pytest.raises(AgentBusyError):
            act(disk, "a")
        with pytest.raises(AgentNotFoundError):
            act(disk, "nobody")
    disk.run()
    assert not (tmp_path / "x").exists()


def test_an_agent_moves_and_goes_on_where_it_was(
    disk: DiskCore, other: DiskCore, tmp_path: Path
) -> None:
    first = ask(disk, "a", prompt(1, 700))
    path = tmp_path / "a.stoker-agent"
    exported = export(disk, "a", path)
    assert exported == ExportedAgent(path=path, num_bytes=path.stat().st_size, num_tokens=707)
    assert path.stat().st_mode & 0o777 == 0o600

    assert take_in(other, path) == "a"
    agent = other.core.agents.get("a")
    assert (agent.num_turns, agent.block_table) == (1, [])
    assert other.persistence.num_disk_tokens(agent) == 707
    longer = [*first.prompt, *first.token_ids, *prompt(9, 20)]
    assert ask(other, "a", longer).num_cached_tokens == 707
    assert other.runner.num_prefilled == len(longer) - 1 - 707
    events = [e.kind for e in [*disk.telemetry.events, *other.telemetry.events]]
    assert events.count("export") == events.count("import") == 1


def test_an_imported_agent_survives_a_restart(disk: DiskCore, tmp_path: Path) -> None:
    ask(disk, "a", prompt(1, 700))
    export(disk, "a", tmp_path / "a")
    other = DiskCore(tmp_path / "other")
    take_in(other, tmp_path / "a", "b")
    other.close()
    other = DiskCore(tmp_path / "other")
    assert ask(other, "b", prompt(1, 700)).num_cached_tokens == 699
    other.close()


def test_an_agent_is_exported_without_waiting_for_the_idle_disk(
    disk: DiskCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not on disk yet when it is asked for, and turns of others go on meanwhile."""
    slow = SlowDisk(monkeypatch)
    ask(disk, "a", prompt(1, 700))
    command = ExportAgent(agent_id="a", path=tmp_path / "a")
    disk.core.actions.obey(command)
    ask(disk, "b", prompt(2, 300))
    assert not command.done.done()
    slow.let_go()
    assert obey(disk, EvictIdle(), command.done).num_tokens == 707


def test_a_name_that_is_taken_or_not_allowed_is_said_and_nothing_changes(
    disk: DiskCore, tmp_path: Path
) -> None:
    ask(disk, "a", prompt(1, 300))
    export(disk, "a", tmp_path / "a")
    for name, words in ((None, "already"), ("a", "already"), ("\n", "printable")):
        with pytest.raises(InvalidRequestError, match=words):
            take_in(disk, tmp_path / "a", name)
    assert take_in(disk, tmp_path / "a", "a2") == "a2"
    assert len(disk.core.agents) == 2


def test_another_model_refuses_the_file_and_names_both(disk: DiskCore, tmp_path: Path) -> None:
    ask(disk, "a", prompt(1, 300))
    export(disk, "a", tmp_path / "a")
    other = DiskCore(tmp_path / "other", fingerprint="another")
    with pytest.raises(ForeignArchiveError, match=r"counting.*another"):
        take_in(other, tmp_path / "a")
    assert len(other.core.agents) == 0
    other.close()


def test_a_damaged_file_makes_no_agent(disk: DiskCore, other: DiskCore, tmp_path: Path) -> None:
    ask(disk, "a", prompt(1, 700))
    path = tmp_path / "a"
    export(disk, "a", path)
    content = bytearray(path.read_bytes())
    content[-3000] ^= 4
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged"):
        take_in(other, path)
    with pytest.raises(ArchiveError, match="cannot read"):
        take_in(other, tmp_path / "absent")
    assert len(other.core.agents) == 0
    assert other.persistence.tier.stats.num_blocks == 0


def test_an_agent_without_a_cache_is_not_exported(disk: DiskCore, tmp_path: Path) -> None:
    turn = submit(disk.core, "a", prompt(1, 300))
    disk.core.abort(turn.request_id, "client went away")
    with pytest.raises(NoCacheError, match="give it a turn"):
        export(disk, "a", tmp_path / "a")


def test_a_file_that_cannot_be_written_is_an_error(disk: DiskCore, tmp_path: Path) -> None:
    ask(disk, "a", prompt(1, 300))
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot write"):
        export(disk, "a", tmp_path / "file" / "a")


def test_without_a_disk_tier_it_is_said_what_to_do(tmp_path: Path) -> None:
    core, _, _ = make_core()
    commands: list[ExportAgent | ImportAgent] = [
        ExportAgent(agent_id="a", path=tmp_path / "a"),
        ImportAgent(path=tmp_path / "a"),
    ]
    for command in commands:
        core.actions.obey(command)
        with pytest.raises(NoDiskTierError, match="set kv_disk_bytes"):
            command.done.result(0)


def test_what_waits_at_the_end_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = DiskCore(tmp_path / "home")
    slow = SlowDisk(monkeypatch)
    ask(disk, "a", prompt(1, 700))
    command = ExportAgent(agent_id="a", path=tmp_path / "a")
    disk.core.actions.obey(command)
    slow.let_go()
    disk.core.close(LIMIT_S)
    with pytest.raises(StokerError, match="shutting down"):
        command.done.result(0)


def test_a_fork_at_a_turn_goes_back_and_can_be_exported(
    disk: DiskCore, other: DiskCore, tmp_path: Path
) -> None:
    first = ask(disk, "a", prompt(1, 700))
    second = [*first.prompt, *first.token_ids, *prompt(4, 500)]
    ask(disk, "a", second)
    command = ForkAgent(agent_id="a", fork_id="b", turn=1)
    assert obey(disk, command, command.done) == "b"
    export(disk, "b", tmp_path / "b")
    take_in(other, tmp_path / "b")
    again = [*first.prompt, *first.token_ids, *prompt(8, 30)]
    assert ask(other, "b", again).num_cached_tokens >= 512
    assert ask(disk, "b", again).num_cached_tokens >= 707


def test_turns_travel_and_can_be_forked_from_there(
    disk: DiskCore, other: DiskCore, tmp_path: Path
) -> None:
    first = ask(disk, "a", prompt(1, 700))
    ask(disk, "a", [*first.prompt, *first.token_ids, *prompt(4, 500)])
    export(disk, "a", tmp_path / "a")
    take_in(other, tmp_path / "a")
    command = ForkAgent(agent_id="a", fork_id="b", turn=1)
    assert obey(other, command, command.done) == "b"
    again = [*first.prompt, *first.token_ids, *prompt(8, 30)]
    assert ask(other, "b", again).num_cached_tokens >= 512
