"""Whatever agents, the disk and restarts do, every turn's tokens are what they would be alone."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    InvalidRequestError,
    NotOnDiskError,
    PoolExhaustedError,
    QueueFullError,
)
from engine.request import FinishReason
from engine.scheduler import SchedulerLimits
from tests.engine.counting_model import CountingRunner, continuation
from tests.engine.disk_core import DiskCore
from tests.engine.expected_map import check_map
from tests.engine.stateful_model import StatefulRunner
from tests.engine.test_core_properties import parts_of
from tests.engine.turns import Turn, check, submit

STEMS = [[(seed * 7919 + i * 31) % 997 for i in range(900)] for seed in range(2)]
LENGTHS = st.sampled_from([1, 100, 255, 256, 257, 400, 512, 513, 700, 900])
AGENTS = st.sampled_from(["a", "b", "c", "a-fork-1"])


class DiskCoreMachine(RuleBasedStateMachine):
    """Submits, steps, aborts, evicts, pins, warms, forks and restarts with too little room."""

    make_runner: type[CountingRunner] = CountingRunner
    num_blocks = 10

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="stoker-test-"))
        self.turns: list[Turn] = []
        self.start()

    def start(self) -> None:
        self.disk = DiskCore(
            self.folder,
            num_blocks=self.num_blocks,
            limits=SchedulerLimits(max_waiting=4, max_running=3),
            disk_budget_bytes=20_000,
            runner=self.make_runner(),
        )

    @rule(
        agent=AGENTS | st.none(),
        stem=st.integers(0, 1),
        length=LENGTHS,
        change=st.integers(0, 5),
        num_tokens=st.sampled_from([0, 1, 3, 300]),
    )
    def submit(
        self, agent: str | None, stem: int, length: int, change: int, num_tokens: int
    ) -> None:
        prompt = [*STEMS[stem][:length], 900 + change]
        try:
            parts = parts_of(prompt)
            self.turns.append(submit(self.disk.core, agent, prompt, num_tokens, parts=parts))
        except (QueueFullError, PoolExhaustedError):
            return

    @rule(agent=AGENTS, extra=st.integers(1, 300))
    def continue_conversation(self, agent: str, extra: int) -> None:
        finished = [
            turn for turn in self.turns if turn.finish_reason and turn.deltas[0].agent_id == agent
        ]
        if finished:
            last = finished[-1]
            prompt = [*last.prompt, *last.token_ids, *STEMS[0][:extra]]
            with suppress(QueueFullError, PoolExhaustedError):
                self.turns.append(submit(self.disk.core, agent, prompt, 3, parts=parts_of(prompt)))

    @rule(num_steps=st.integers(1, 12))
    def step(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.disk.do_posted()
            if self.disk.core.scheduler.can_step:
                self.disk.core.step()

    @rule(which=st.integers(0, 100))
    def abort(self, which: int) -> None:
        if self.turns:
            self.disk.core.abort(self.turns[which % len(self.turns)].request_id, "test")

    @rule(agent=AGENTS, action=st.sampled_from(["evict", "pin", "unpin", "warm", "fork"]))
    def act(self, agent: str, action: str) -> None:
        core = self.disk.core
        try:
            match action:
                case "evict":
                    core.actions.evict(agent)
                case "pin" | "unpin":
                    core.actions.pin(agent, action == "pin")
                case "warm":
                    core.actions.warm(agent, lambda _: None)
                case "fork":
                    core.actions.fork(agent, None)
        except (AgentBusyError, AgentNotFoundError, InvalidRequestError, NotOnDiskError):
            return

    @rule(agent=AGENTS, turn=st.integers(1, 4))
    def fork_at_a_turn(self, agent: str, turn: int) -> None:
        core = self.disk.core
        try:
            original = core.agents.get(agent)
            mark = original.history.get(turn)
            fork = core.agents.fork(original, None, turn)
        except (AgentBusyError, AgentNotFoundError, InvalidRequestError):
            return
        assert mark is not None
        assert len(fork.token_ids) <= mark.num_tokens
        self.disk.persistence.keep_facts(fork)

    @rule(agent=AGENTS | st.sampled_from(["a-fork-1", "b-fork-1"]))
    def remove(self, agent: str) -> None:
        with suppress(AgentBusyError, AgentNotFoundError):
            self.disk.core.agents.remove(self.disk.core.agents.get(agent))

    @rule()
    def finish_all(self) -> None:
        self.disk.run()

    @rule(flush=st.booleans())
    def restart(self, flush: bool) -> None:
        self.disk.core.abort_all()
        self.disk.close(10.0 if flush else 0.0)
        check(self.disk.core)
        self.start()

    @invariant()
    def pool_is_whole(self) -> None:
        check(self.disk.core)

    @invariant()
    def map_is_right(self) -> None:
        check_map(self.disk.core)

    @invariant()
    def tokens_are_right(self) -> None:
        for turn in self.turns:
            assert turn.token_ids == continuation(turn.prompt, len(turn.token_ids))
        self.turns = [t for t in self.turns if t.finish_reason is None] + self.turns[-1:]

    def teardown(self) -> None:
        self.disk.run()
        self.tokens_are_right()
        for turn in self.turns:
            assert turn.finish_reason is not FinishReason.ERROR or turn.deltas[-1].error
        self.disk.close(0.0)
        self.disk.do_posted(0.05)
        for agent in list(self.disk.core.agents):
            assert agent.num_active == 0
            self.disk.core.actions.evict(agent.agent_id)
        assert self.disk.core.pool.num_referenced_blocks == 0
        shutil.rmtree(self.folder)


class StatefulDiskMachine(DiskCoreMachine):
    """The same for a model that can be resumed only at checkpoints."""

    make_runner = StatefulRunner
    num_blocks = 14


SETTINGS = settings(max_examples=40, stateful_step_count=25, deadline=None)
DiskCoreMachine.TestCase.settings = SETTINGS
StatefulDiskMachine.TestCase.settings = SETTINGS
TestDiskCore = DiskCoreMachine.TestCase
TestStatefulDisk = StatefulDiskMachine.TestCase
