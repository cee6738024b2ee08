"""The scripted engine keeps the engine's promises, so that screens can be tested on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from engine.agent_commands import EvictAgent, EvictIdle, Eviction, ForkAgent, PinAgent, WarmAgent
from engine.commands import AbortAgent, Generate, Note, Shutdown
from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    DrainingError,
    InvalidRequestError,
    NotOnDiskError,
    UnavailableError,
)
from engine.face import EngineFace
from engine.request import Request, SamplingParams
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.scripted_world import DemoWorld
from engine.snapshot import (
    NO_OWNER,
    AgentStatus,
    BlockState,
    EngineSnapshot,
    EngineStatus,
    from_json,
    to_json,
)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def demo(seed: int = 7) -> tuple[ScriptedEngine, Clock]:
    clock = Clock()
    engine: EngineFace = ScriptedEngine(DemoWorld(seed=seed), clock=clock)
    assert isinstance(engine, ScriptedEngine)
    engine.start()
    return engine, clock


def busy() -> ScriptedEngine:
    engine = ScriptedEngine(StillScene(SCENES["busy"]()), clock=Clock())
    engine.start()
    return engine


def demo_at(now_s: float) -> ScriptedEngine:
    engine, clock = demo()
    clock.now_s = now_s
    return engine


def day(seed: int) -> list[EngineSnapshot]:
    engine, clock = demo(seed)
    shown = []
    for second in range(0, 240, 3):
        clock.now_s = float(second)
        shown.append(engine.snapshot)
    return shown


def test_the_same_seed_gives_the_same_day_and_another_one_does_not() -> None:
    assert day(7) == day(7)
    assert day(7) != day(8)


def test_the_demo_loads_serves_fills_shares_and_evicts() -> None:
    shown = day(7)
    assert shown[0].status is EngineStatus.LOADING
    assert shown[1].progress > shown[0].progress
    assert shown[-1].status is EngineStatus.SERVING
    statuses = {row.status for snapshot in shown for row in snapshot.agents}
    assert {"queued", "prefilling", "decoding", "idle"} <= statuses
    assert max(snapshot.pool.num_shared_blocks for snapshot in shown) > 0
    kinds = {event.kind for event in shown[-1].events}
    assert {"load", "miss", "evict"} <= kinds
    assert shown[-1].pool.num_evictions > 0


def test_pool_numbers_agree_with_the_map_at_every_moment() -> None:
    for snapshot in day(3):
        pool = snapshot.pool
        states = pool.block_states
        assert len(states) == len(pool.block_owners) == pool.num_total_blocks
        assert states.count(BlockState.FREE) == pool.num_free_blocks
        assert states.count(BlockState.CACHED) == pool.num_cached_blocks
        assert states.count(BlockState.SHARED) == pool.num_shared_blocks
        for state, owner in zip(states, pool.block_owners, strict=True):
            is_held = state not in (BlockState.FREE, BlockState.CACHED)
            assert (owner != NO_OWNER) == is_held
            assert owner == NO_OWNER or owner < len(snapshot.agents)


@pytest.mark.parametrize("scene", SCENES)
def test_scenes_are_plain_data(scene: str) -> None:
    snapshot = SCENES[scene]()
    assert from_json(json.loads(json.dumps(to_json(snapshot)))) == snapshot


def test_nothing_is_shown_before_the_start() -> None:
    engine = ScriptedEngine(DemoWorld(), clock=Clock())
    assert engine.snapshot.status is EngineStatus.STARTING
    assert engine.chat_format is None


def test_commands_change_the_demo_as_they_change_an_engine() -> None:
    engine, clock = demo()
    clock.now_s = 60.0
    rows = {row.agent_id: row for row in engine.snapshot.agents}
    idle = next(row for row in rows.values() if row.status is AgentStatus.IDLE)
    working = next(row for row in rows.values() if row.status is AgentStatus.DECODING)
    used_before = engine.snapshot.pool.num_free_blocks

    evict = EvictAgent(agent_id=idle.agent_id)
    engine.send(evict)
    assert evict.done.result(0).freed_bytes == idle.hot_bytes - idle.shared_bytes
    row = engine.snapshot.agent(idle.agent_id)
    assert row is not None
    assert (row.status, row.hot_bytes) == (AgentStatus.WARM, 0)
    assert row.warm_bytes == idle.warm_bytes
    assert engine.snapshot.pool.num_free_blocks > used_before
    assert engine.snapshot.events[-1].kind == "evict"

    abort = AbortAgent(agent_id=working.agent_id)
    engine.send(abort)
    assert abort.done.result(0) == 1
    row = engine.snapshot.agent(working.agent_id)
    assert row is not None
    assert row.status is AgentStatus.IDLE

    clock.now_s = 200.0  # the evicted agent comes back from disk
    row = engine.snapshot.agent(idle.agent_id)
    assert row is not None
    assert row.num_turns > idle.num_turns
    restores = [event.text for event in engine.snapshot.events if event.kind == "restore"]
    assert any(text.startswith(f"{idle.agent_id}: ") for text in restores)


def test_an_agent_of_an_earlier_run_waits_on_disk_and_is_restored_for_its_turn() -> None:
    engine, clock = demo()
    clock.now_s = 30.0
    row = engine.snapshot.agent("nightly")
    assert row is not None
    assert (row.status, row.hot_bytes) == (AgentStatus.WARM, 0)
    assert row.warm_bytes > 0
    assert row.idle_s > 7200
    seen = {}
    for tenth in range(900, 1100):
        clock.now_s = tenth / 10
        row = engine.snapshot.agent("nightly")
        assert row is not None
        seen[row.status] = row
    assert [*seen][:3] == ["warm", "restoring", "prefilling"]
    assert seen[AgentStatus.DECODING].num_restored_tokens > 5000
    assert seen[AgentStatus.DECODING].num_cached_tokens == 5420


def test_the_demo_writes_behind() -> None:
    shown = day(7)
    assert shown[-1].disk.is_on
    assert shown[-1].disk.bytes_used > shown[3].disk.bytes_used
    assert max(snapshot.disk.num_pending for snapshot in shown) > 0
    assert min(snapshot.disk.num_pending for snapshot in shown[10:]) == 0
    engine, clock = demo()
    clock.now_s = 300.0
    pool, disk = engine.snapshot.pool, engine.snapshot.disk
    assert 0 < pool.block_states.count(BlockState.DIRTY) <= disk.num_pending


def test_warm_brings_a_cache_back_ahead_of_its_turn() -> None:
    engine, clock = demo()
    clock.now_s = 30.0
    warm = WarmAgent(agent_id="nightly")
    again = WarmAgent(agent_id="nightly")
    engine.send(warm)
    assert warm.done.result(0) == 5420
    engine.send(again)
    assert isinstance(again.done.exception(0), AgentBusyError)
    clock.now_s = 35.0
    row = engine.snapshot.agent("nightly")
    assert row is not None
    assert (row.status, row.hot_bytes) == (AgentStatus.IDLE, row.warm_bytes)
    late = WarmAgent(agent_id="nightly")
    engine.send(late)
    assert isinstance(late.done.exception(0), NotOnDiskError)


@pytest.mark.parametrize("make", [lambda: busy(), lambda: demo_at(60.0)])
def test_a_fork_shares_its_origins_blocks(make: Callable[[], ScriptedEngine]) -> None:
    engine = make()
    before = engine.snapshot
    origin = next(row for row in before.agents if row.status is AgentStatus.IDLE)
    first = ForkAgent(agent_id=origin.agent_id)
    second = ForkAgent(agent_id=origin.agent_id, fork_id="try/2")
    taken = ForkAgent(agent_id=origin.agent_id, fork_id="try/2")
    for command in (first, second, taken):
        engine.send(command)
    assert first.done.result(0) == f"{origin.agent_id}-fork-1"
    assert second.done.result(0) == "try/2"
    assert isinstance(taken.done.exception(0), InvalidRequestError)
    after = engine.snapshot
    assert after.pool.num_free_blocks == before.pool.num_free_blocks
    for agent_id in (origin.agent_id, first.done.result(), "try/2"):
        row = after.agent(agent_id)
        assert row is not None
        assert row.hot_bytes == row.shared_bytes == origin.hot_bytes
        assert row.num_context_tokens == origin.num_context_tokens


def test_refusals_are_the_engines_own() -> None:
    engine = busy()
    unknown = EvictAgent(agent_id="nobody")
    working = EvictAgent(agent_id="claude repo-a")
    idle_abort = AbortAgent(agent_id="review-bot")
    pin = PinAgent(agent_id="nobody", pinned=True)
    warm = WarmAgent(agent_id="review-bot")
    fork = ForkAgent(agent_id="claude repo-a")
    for command in (unknown, working, idle_abort, pin, warm, fork):
        engine.send(command)
    assert isinstance(warm.done.exception(0), NotOnDiskError)
    assert isinstance(fork.done.exception(0), AgentBusyError)
    assert isinstance(unknown.done.exception(0), AgentNotFoundError)
    assert isinstance(working.done.exception(0), AgentBusyError)
    assert idle_abort.done.result(0) == 0
    assert isinstance(pin.done.exception(0), AgentNotFoundError)


def test_it_generates_nothing_and_says_so() -> None:
    request = Request(
        request_id="r", agent_id=None, prompt_token_ids=(1,), sampling=SamplingParams()
    )
    command = Generate(request=request, sink=lambda _delta: None)
    busy().send(command)
    assert isinstance(command.admitted.exception(0), UnavailableError)


def test_notes_become_events() -> None:
    engine = busy()
    engine.send(Note(kind="alias", text="gpt-4 is served by SmolLM2", level="warning"))
    event = engine.snapshot.events[-1]
    assert (event.kind, event.level) == ("alias", "warning")
    assert event.number == engine.snapshot.events[-2].number + 1


def test_shutdown_drains_and_then_takes_nothing() -> None:
    engine, clock = demo()
    clock.now_s = 20.0
    assert engine.snapshot.batch.num_running > 0
    engine.send(Shutdown(drain_s=2.0))
    assert engine.snapshot.status is EngineStatus.DRAINING
    assert engine.join(0.05) is False
    late: Future[Eviction] = Future()
    engine.send(EvictIdle(done=late))
    assert isinstance(late.exception(0), DrainingError)
    clock.now_s = 23.0
    assert engine.join(0.05) is True
    assert engine.snapshot.batch.num_running == 0
