"""A core whose process runs short of memory: what goes, who waits, who is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from engine.cache.spec import MIN_BLOCK_BYTES
from engine.core import EngineCore
from engine.errors import PoolExhaustedError
from engine.memory import MemoryLimits, MemoryReading
from engine.pressure import MemoryAccess
from engine.request import FinishReason
from engine.telemetry import Telemetry
from tests.engine.counting_model import Clock, CountingRunner, continuation, make_core
from tests.engine.turns import Turn, check, run, submit

NUM_BLOCKS = 40
LIMIT_BLOCKS = 100
LIMIT_BYTES = LIMIT_BLOCKS * MIN_BLOCK_BYTES


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


@dataclass
class Machine:
    """A core in a process with other things in it; memory is counted in blocks.

    Attributes:
        num_other: What all but the pool takes.
        num_freed: Freed buffers that were not given back.
        num_looks: Readings taken.
        most: The most that the process took at any reading.
    """

    num_other: int = 30
    num_freed: int = 0
    num_looks: int = 0
    most: int = 0
    clock: Clock = field(default_factory=Clock)
    core: EngineCore = field(init=False)
    runner: CountingRunner = field(init=False)
    telemetry: Telemetry = field(init=False)

    def __post_init__(self) -> None:
        access = MemoryAccess(MemoryLimits(LIMIT_BYTES), self.read, self.give_back)
        self.core, self.runner, self.telemetry = make_core(
            num_blocks=NUM_BLOCKS, memory=access, clock=self.clock
        )

    @property
    def num_taken(self) -> int:
        pool = self.core.pool
        num_filled = sum(block.payload is not None for block in pool)
        num_running = sum(-(-s.num_computed_tokens // 256) for s in self.core.scheduler.running)
        num_held = num_filled + num_running + pool.num_spare_blocks
        return num_held + self.num_other + self.num_freed

    def read(self) -> MemoryReading:
        self.num_looks += 1
        self.most = max(self.most, self.num_taken)
        size = MIN_BLOCK_BYTES
        return MemoryReading(
            active_bytes=(self.num_taken - self.num_freed) * size,
            cache_bytes=self.num_freed * size,
            footprint_bytes=self.num_taken * size,
        )

    def give_back(self) -> None:
        self.num_freed = 0

    def pass_time(self) -> None:
        self.clock.now_s += 1.0

    def step_after_a_while(self) -> None:
        self.pass_time()
        self.core.step()

    def ask(self, agent_id: str, tokens: list[int]) -> Turn:
        self.pass_time()
        turn = submit(self.core, agent_id, tokens)
        run(self.core)
        assert turn.finish_reason is FinishReason.MAX_TOKENS
        assert turn.token_ids == continuation(tokens, 8)
        check(self.core)
        return turn

    def events(self, kind: str) -> list[str]:
        return [event.text for event in self.telemetry.events if event.kind == kind]


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_with_room_the_whole_pool_is_used(machine: Machine) -> None:
    for number in range(8):
        machine.ask(f"a{number}", prompt(number, 1000))
    machine.step_after_a_while()
    assert all(agent.block_table for agent in machine.core.agents)
    assert machine.events("memory") == machine.events("evict") == []


def test_a_process_that_grows_takes_room_from_the_oldest_idle_agents(machine: Machine) -> None:
    for number in range(8):
        machine.ask(f"a{number}", prompt(number, 1000))
    machine.core.agents.pin(machine.core.agents.get("a0"), True)
    # 32 blocks are held, and 4 stand; 90 is the target: those and 13 have to go.
    machine.num_other = 71
    machine.step_after_a_while()
    evicted = [agent.agent_id for agent in machine.core.agents if not agent.block_table]
    assert evicted == ["a1", "a2", "a3", "a4"]
    assert machine.num_taken <= 90
    assert machine.events("memory") == [
        "7.0 MB of 6.6 MB in use: the KV cache shrinks to 1.2 MB",
    ]
    assert all("memory is short" in text for text in machine.events("evict"))
    check(machine.core)


def test_caches_nobody_holds_go_before_any_agents(machine: Machine) -> None:
    machine.ask("a", prompt(1, 1000))
    machine.ask("a", prompt(2, 1000))
    assert machine.core.pool.num_cached_blocks == 3
    machine.num_other = 90 - 4
    machine.step_after_a_while()
    assert machine.core.pool.num_cached_blocks == 0
    assert machine.core.agents.get("a").block_table


def test_room_that_comes_back_is_used_again(machine: Machine) -> None:
    machine.num_other = 86
    machine.step_after_a_while()
    assert machine.core.pool.num_allocatable_blocks == 4
    machine.num_other = 30
    machine.step_after_a_while()
    assert machine.core.pool.num_allocatable_blocks == NUM_BLOCKS
    assert "room for the whole KV cache again" in machine.events("memory")[-1]
    machine.ask("a", prompt(1, 9000))


def test_freed_buffers_go_before_any_cache(machine: Machine) -> None:
    for number in range(8):
        machine.ask(f"a{number}", prompt(number, 1000))
    machine.num_freed = 40
    machine.step_after_a_while()
    assert machine.num_freed == 0
    assert machine.events("evict") == machine.events("memory") == []


def test_a_request_there_is_no_memory_for_is_refused_with_a_time(machine: Machine) -> None:
    machine.num_other = 88
    machine.pass_time()
    with pytest.raises(PoolExhaustedError, match="no memory for 1000 more tokens") as caught:
        submit(machine.core, "a", prompt(1, 1000))
    assert caught.value.retry_after_s >= 1
    machine.ask("small", prompt(2, 300))
    machine.num_other = 30
    machine.ask("a", prompt(1, 1000))


def test_what_idle_agents_hold_is_no_reason_to_refuse(machine: Machine) -> None:
    for number in range(8):
        machine.ask(f"a{number}", prompt(number, 1000))
    machine.num_other = 60
    machine.ask("new", prompt(9, 5000))
    assert machine.most <= LIMIT_BLOCKS


def test_what_pinned_agents_hold_is(machine: Machine) -> None:
    for number in range(6):
        machine.ask(f"a{number}", prompt(number, 1000))
        machine.core.agents.pin(machine.core.agents.get(f"a{number}"), True)
    machine.num_other = 60
    machine.pass_time()
    with pytest.raises(PoolExhaustedError, match="no memory"):
        submit(machine.core, "new", prompt(9, 3000))


def test_running_turns_that_grow_into_short_memory_wait_for_each_other(machine: Machine) -> None:
    turns = [submit(machine.core, f"a{i}", prompt(i, 250), max_tokens=900) for i in range(4)]
    for _ in range(30):
        machine.core.step()
    machine.num_other = 78
    while machine.core.scheduler.has_work:
        machine.pass_time()
        machine.core.step()
        assert machine.num_taken <= LIMIT_BLOCKS
    for turn in turns:
        assert turn.token_ids == continuation(turn.prompt, 900)
    assert machine.events("preempt")
    check(machine.core)


def test_prompts_that_run_are_counted_before_their_cache_is_there(machine: Machine) -> None:
    """A long prompt that was admitted fills its room bit by bit; nobody else gets it meanwhile."""
    machine.num_other = 62
    machine.pass_time()
    long = submit(machine.core, "long", prompt(1, 6000))
    machine.core.step()
    second = submit(machine.core, "second", prompt(2, 3000), max_tokens=80)
    while machine.core.scheduler.has_work:
        machine.step_after_a_while()
        assert machine.num_taken <= 0.9 * LIMIT_BLOCKS + 1
    assert long.token_ids == continuation(long.prompt, 8)
    assert second.token_ids == continuation(second.prompt, 80)


def test_looking_is_rare(machine: Machine) -> None:
    machine.ask("a", prompt(1, 100))
    machine.num_looks = 0
    submit(machine.core, "a", prompt(1, 300), max_tokens=200)
    began_s = machine.clock.now_s
    run(machine.core)
    assert machine.num_looks <= 3 + (machine.clock.now_s - began_s) / 0.25
