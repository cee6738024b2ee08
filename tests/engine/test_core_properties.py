"""Whatever agents do to each other, every turn's tokens are what they would be alone."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.commands import PauseAgent, SetPriority
from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    InvalidRequestError,
    PoolExhaustedError,
    QueueFullError,
)
from engine.request import FinishReason, PromptPart
from engine.scheduler import SchedulerLimits
from engine.turn_limits import MAX_PRIORITY, MIN_PRIORITY
from tests.engine.counting_model import CountingRunner, continuation, make_core
from tests.engine.expected_map import check_map
from tests.engine.stateful_model import StatefulRunner
from tests.engine.turns import Turn, check, run, submit

# Few stems and cuts at and around block boundaries, so that prefixes are shared in every way.
STEMS = [[(seed * 7919 + i * 31) % 997 for i in range(900)] for seed in range(2)]
LENGTHS = st.sampled_from([1, 2, 100, 255, 256, 257, 258, 400, 511, 512, 513, 700, 900])
AGENTS = st.sampled_from(["a", "b", "c", "d"])


def parts_of(prompt: list[int]) -> tuple[PromptPart, ...]:
    """Parts as a chat has them: most prompts here have one beginning."""
    parts = [PromptPart("system", 0)]
    if len(prompt) > 200:
        parts.append(PromptPart("message 1 (user)", 200))
    if len(prompt) % 2 and len(prompt) > 203:
        parts.append(PromptPart("reply", len(prompt) - 3))
    return tuple(parts)


class CoreMachine(RuleBasedStateMachine):
    """Submits, steps, aborts, evicts, pins, pauses, forks, removes; the pool is too small."""

    make_runner: type[CountingRunner] = CountingRunner
    num_blocks = 12

    def __init__(self) -> None:
        super().__init__()
        self.core, _, _ = make_core(
            num_blocks=self.num_blocks,
            limits=SchedulerLimits(max_waiting=4, max_running=3),
            runner=self.make_runner(),
        )
        self.turns: list[tuple[Turn, int]] = []

    def _submit(self, agent: str | None, prompt: list[int], num_tokens: int) -> None:
        try:
            parts = parts_of(prompt)
            turn = submit(self.core, agent, prompt, num_tokens, parts=parts)
            self.turns.append((turn, num_tokens))
        except (QueueFullError, PoolExhaustedError):
            return

    @rule(
        agent=AGENTS | st.none(),
        stem=st.integers(0, 1),
        length=LENGTHS,
        change=st.integers(0, 5),
        num_tokens=st.sampled_from([0, 1, 3, 300]),
    )
    def submit_stem(
        self, agent: str | None, stem: int, length: int, change: int, num_tokens: int
    ) -> None:
        prompt = [*STEMS[stem][:length], 900 + change]
        self._submit(agent, prompt, num_tokens)

    @rule(agent=AGENTS, extra=st.integers(1, 300))
    def continue_conversation(self, agent: str, extra: int) -> None:
        finished = [
            turn
            for turn, _ in self.turns
            if turn.finish_reason is FinishReason.MAX_TOKENS and turn.deltas[0].agent_id == agent
        ]
        if finished:
            last = finished[-1]
            self._submit(agent, [*last.prompt, *last.token_ids, *STEMS[0][:extra]], 3)

    @rule(num_steps=st.integers(1, 12))
    def step(self, num_steps: int) -> None:
        for _ in range(num_steps):
            if self.core.scheduler.has_work:
                self.core.step()

    @rule(which=st.integers(0, 100))
    def abort(self, which: int) -> None:
        if self.turns:
            self.core.abort(self.turns[which % len(self.turns)][0].request_id, "test")

    @rule(agent=AGENTS)
    def evict(self, agent: str) -> None:
        try:
            self.core.actions.evict(agent)
        except (AgentBusyError, AgentNotFoundError):
            return

    @rule(agent=AGENTS, pinned=st.booleans())
    def pin(self, agent: str, pinned: bool) -> None:
        try:
            self.core.actions.pin(agent, pinned)
        except AgentNotFoundError:
            return

    @rule(agent=AGENTS, paused=st.booleans())
    def pause(self, agent: str, paused: bool) -> None:
        self.core.actions.obey(PauseAgent(agent_id=agent, paused=paused))

    @rule(agent=AGENTS, priority=st.integers(MIN_PRIORITY, MAX_PRIORITY))
    def set_priority(self, agent: str, priority: int) -> None:
        self.core.actions.obey(SetPriority(agent_id=agent, priority=priority))

    @rule(agent=AGENTS, turn=st.none() | st.integers(1, 4))
    def fork(self, agent: str, turn: int | None) -> None:
        try:
            original = self.core.agents.get(agent)
            fork = self.core.agents.fork(original, None, turn)
        except (AgentBusyError, AgentNotFoundError, InvalidRequestError):
            return
        mark = original.history.get(turn) if turn else None
        if mark is not None:
            assert len(fork.token_ids) <= mark.num_tokens
        self._submit(fork.agent_id, [*fork.token_ids, 7, 8], 3)

    @rule(agent=AGENTS)
    def remove(self, agent: str) -> None:
        try:
            self.core.agents.remove(self.core.agents.get(agent))
        except (AgentBusyError, AgentNotFoundError):
            return

    @rule()
    def finish_all(self) -> None:
        run(self.core)

    @invariant()
    def pool_is_whole(self) -> None:
        check(self.core)

    @invariant()
    def map_is_right(self) -> None:
        check_map(self.core)

    @invariant()
    def tokens_are_right(self) -> None:
        for turn, num_tokens in self.turns:
            expected = continuation(turn.prompt, len(turn.token_ids))
            assert turn.token_ids == expected
            if turn.finish_reason is FinishReason.MAX_TOKENS:
                assert len(turn.token_ids) == num_tokens
        # Checked once; a finished turn cannot change any more.
        self.turns = [
            (turn, n) for turn, n in self.turns if turn.finish_reason is None
        ] + self.turns[-1:]

    @invariant()
    def the_queue_is_in_order_and_none_that_is_paused_runs(self) -> None:
        scheduler = self.core.scheduler
        dues = [sequence.due_s for sequence in scheduler.waiting]
        assert dues == sorted(dues)
        assert not any(sequence.agent.paused for sequence in scheduler.running)

    def teardown(self) -> None:
        for agent in list(self.core.agents):
            self.pause(agent.agent_id, False)
        run(self.core)
        self.tokens_are_right()
        for agent in list(self.core.agents):
            assert agent.num_active == 0
            self.core.actions.evict(agent.agent_id)
        assert self.core.pool.num_referenced_blocks == 0


class StatefulMachine(CoreMachine):
    """The same for a model that can be resumed only at checkpoints."""

    make_runner = StatefulRunner
    num_blocks = 16


SETTINGS = settings(max_examples=80, stateful_step_count=30, deadline=None)
CoreMachine.TestCase.settings = SETTINGS
StatefulMachine.TestCase.settings = SETTINGS
TestCore = CoreMachine.TestCase
TestStateful = StatefulMachine.TestCase
