"""The engine without its thread: turns in, one step at a time, deltas out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.cache.agents import Agent, AgentStore
from engine.cache.block import BLOCK_TOKENS, root_hash
from engine.cache.disk.tier import DiskTier
from engine.cache.pool import BlockPool
from engine.cache.spec import CacheSpec
from engine.commands import Generate
from engine.errors import (
    ContextExceededError,
    NotOnDiskError,
    PoolExhaustedError,
    StokerError,
)
from engine.models.chat import ModelChat
from engine.models.stops import StopMatcher
from engine.output import Output
from engine.persistence import Persistence, Post
from engine.relief import Relief
from engine.request import Request
from engine.residency import Residency
from engine.runtime.runner import ModelRunner
from engine.runtime.sampling import Sampler
from engine.scheduler import Scheduler, SchedulerLimits
from engine.sequence import Sequence
from engine.stepper import Stepper
from engine.telemetry import Telemetry


def _at_once(action: Callable[[], None]) -> None:
    action()


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreParts:
    """What a core is made of.

    Attributes:
        runner: Runs the model.
        chat: The model's text side.
        spec: What its cache looks like.
        fingerprint: Identity of its weights, config and tokenizer.
        reuses: Whether its cache may be cut and restored.
        num_blocks: Size of the pool.
        limits: Bounds of the scheduler.
        telemetry: Takes events and measurements.
        tier: The warm tier, not yet open; None keeps nothing on disk.
        post: Has something done on the engine's thread, soon; may be called from any thread.
    """

    runner: ModelRunner
    chat: ModelChat
    spec: CacheSpec
    fingerprint: str
    reuses: bool
    num_blocks: int
    limits: SchedulerLimits
    telemetry: Telemetry
    tier: DiskTier | None = None
    post: Post = _at_once


class EngineCore:
    """Serves turns on one loaded model. Every method belongs to the engine's thread."""

    def __init__(self, parts: CoreParts, clock: Callable[[], float] = time.monotonic) -> None:
        """Makes an empty pool and an empty queue.

        Args:
            parts: What it is made of.
            clock: Monotonic seconds.
        """
        self._chat = parts.chat
        self._telemetry = parts.telemetry
        self._clock = clock
        self.pool = BlockPool(parts.num_blocks, parts.spec.block_bytes)
        self.agents = AgentStore(self.pool)
        self.scheduler = Scheduler(parts.limits)
        root = root_hash(parts.fingerprint, parts.spec.kv_format)
        self._residency = Residency(
            self.pool,
            self.agents,
            parts.runner,
            Relief(self.pool, self.agents, parts.telemetry.note),
            root,
            reuses=parts.reuses,
        )
        self.persistence = self._open(parts, root) if parts.tier and parts.reuses else None
        self.stepper = Stepper(
            parts.runner,
            parts.chat,
            self.scheduler,
            self._residency,
            self.agents,
            self.persistence,
            parts.telemetry,
            clock,
        )

    def _open(self, parts: CoreParts, root: bytes) -> Persistence:
        """Opens the warm tier and takes in the agents it knows.

        Raises:
            DataFolderInUseError: Another process has the folder.
        """
        assert parts.tier is not None
        persistence = Persistence(
            parts.tier,
            self.pool,
            self.agents,
            parts.runner,
            root,
            make_room=lambda n: self._residency.relief.make_room(n, ()),
            post=parts.post,
            note=parts.telemetry.note,
            clocks=(self._clock, time.time),
        )
        persistence.adopt(parts.tier.open())
        self._residency.on_sealed = persistence.keep_block
        return persistence

    @property
    def max_context_tokens(self) -> int:
        """Tokens a sequence may have: what the model knows, or what the pool can hold."""
        return min(self._chat.max_context_tokens, self.pool.num_total_blocks * BLOCK_TOKENS)

    # Turns

    def submit(self, command: Generate) -> str:
        """Queues a turn.

        Returns:
            Id of the agent it belongs to.

        Raises:
            StokerError: It cannot be queued; nothing has changed.
        """
        request = command.request
        self._check_room(request)
        agent = self.agents.resolve(request.agent_id, request.prompt_token_ids, request.agent_hint)
        agent.protocol = request.protocol
        sequence = Sequence(
            request=request,
            sink=command.sink,
            agent=agent,
            arrival_s=self._clock(),
            output=self._output(request),
            sampler=Sampler(request.sampling),
            token_ids=list(request.prompt_token_ids),
        )
        self.scheduler.add(sequence)
        agent.num_active += 1
        self.agents.touch(agent, sequence.arrival_s)
        if self.persistence is not None:
            self.persistence.prefetch(sequence)
        return agent.agent_id

    def _check_room(self, request: Request) -> None:
        num_prompt = len(request.prompt_token_ids)
        if num_prompt >= self.max_context_tokens:
            raise ContextExceededError(num_prompt, self.max_context_tokens)
        if not self._residency.can_ever_hold(num_prompt + 1, request.agent_id):
            raise PoolExhaustedError(
                f"pinned agents leave no room for {num_prompt} tokens; unpin one or wait",
                self.scheduler.retry_after_s(),
            )

    def _output(self, request: Request) -> Output:
        room = self.max_context_tokens - len(request.prompt_token_ids)
        return Output(
            sampling=request.sampling,
            max_tokens=min(request.sampling.max_tokens, room),
            end_token_ids=self._chat.end_token_ids,
            pieces=self._chat.detokenizer(),
            stops=StopMatcher(request.sampling.stop),
        )

    def abort(self, request_id: str, reason: str) -> None:
        """Ends one turn; unknown ids are ignored."""
        for sequence in self.scheduler:
            if sequence.request.request_id == request_id:
                self.stepper.abort(sequence, reason)
                return

    def abort_agent(self, agent_id: str) -> int:
        """Ends every turn of an agent.

        Returns:
            How many there were.

        Raises:
            AgentNotFoundError: There is no such agent.
        """
        agent = self.agents.get(agent_id)
        ended = [sequence for sequence in self.scheduler if sequence.agent is agent]
        for sequence in ended:
            self.stepper.abort(sequence, "aborted by hand")
        return len(ended)

    def abort_all(self, error: StokerError | None = None) -> None:
        """Ends every turn, with an error if one is given."""
        for sequence in list(self.scheduler):
            if error is None:
                self.stepper.abort(sequence, "shutting down")
            else:
                self.stepper.fail(sequence, error)

    # Agents

    def evict(self, agent_id: str) -> int:
        """Drops an agent's cache.

        Returns:
            Bytes freed.

        Raises:
            AgentNotFoundError: There is no such agent.
            AgentBusyError: A turn of it is in progress.
        """
        agent = self.agents.get(agent_id)
        num_tokens = len(agent.token_ids)
        num_bytes = self.agents.evict(agent)
        self._telemetry.note(
            "evict", f"{agent_id}: {num_tokens} tokens, {num_bytes / 1e6:.0f} MB (by hand)"
        )
        return num_bytes

    def evict_idle(self) -> int:
        """Drops the caches of all idle, unpinned agents.

        Returns:
            Bytes freed.
        """
        return sum(self.evict(a.agent_id) for a in list(self.agents) if a.evictable)

    def pin(self, agent_id: str, pinned: bool) -> bool:
        """Keeps an agent's cache from eviction, or lets it go.

        Raises:
            AgentNotFoundError: There is no such agent.
        """
        agent = self.agents.get(agent_id)
        if agent.pinned != pinned:
            agent.pinned = pinned
            self._telemetry.note("pin" if pinned else "unpin", agent_id)
            if self.persistence is not None:
                self.persistence.keep_facts(agent)
        return pinned

    def warm(self, agent_id: str, done: Callable[[int], None]) -> None:
        """Brings an agent's cache from disk into memory.

        Args:
            agent_id: The agent.
            done: Told how many of its tokens are in memory afterwards.

        Raises:
            AgentNotFoundError: There is no such agent.
            AgentBusyError: A turn of it is in progress.
            NotOnDiskError: Nothing of it is on disk that is not in memory.
        """
        agent = self.agents.get(agent_id)
        if self.persistence is None:
            raise NotOnDiskError(agent_id)
        self.persistence.warm(agent, done)

    def fork(self, agent_id: str, fork_id: str | None) -> str:
        """Makes a new agent that starts from another's cache.

        Returns:
            The new agent's id.

        Raises:
            AgentNotFoundError: There is no such agent.
            AgentBusyError: A turn of it is in progress.
            InvalidRequestError: The new name is taken or not allowed.
        """
        agent = self.agents.get(agent_id)
        fork = self.agents.fork(agent, fork_id)
        fork.last_active_s = self._clock()
        self._telemetry.note("fork", f"{fork.agent_id} from {agent_id}")
        if self.persistence is not None:
            self.persistence.keep_facts(fork)
        return fork.agent_id

    # Steps

    def step(self) -> None:
        """Decodes one token of every running sequence and prefills one slice of one prompt."""
        self.stepper.step()

    def active_sequence(self, agent: Agent) -> Sequence | None:
        """The turn an agent has in progress, a running one first."""
        return next((s for s in self.scheduler if s.agent is agent), None)
