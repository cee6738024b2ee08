"""The engine without its thread: turns in, one step at a time, deltas out."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from engine.agent_actions import AgentActions
from engine.agent_text import AgentTexts
from engine.block_inquiry import describe_block
from engine.cache.agents import AgentStore
from engine.cache.block import root_hash
from engine.cache.checkpoint import max_tokens, sequence_slots
from engine.cache.pool import BlockPool
from engine.commands import Generate, ToolsCalled
from engine.core_parts import CoreParts
from engine.endings import Endings
from engine.errors import (
    ContextExceededError,
    ModelChangedError,
    PoolExhaustedError,
    StokerError,
)
from engine.explainer import Explainer
from engine.models.stops import StopMatcher
from engine.output import Output
from engine.persistence import Persistence
from engine.pressure import Pressure
from engine.publisher import Publisher
from engine.recovery import Recovery
from engine.relief import Relief
from engine.request import Request
from engine.residency import Residency
from engine.runtime.sampling import make_sampler
from engine.scheduler import Scheduler
from engine.sequence import Sequence
from engine.shortage import Shortage
from engine.snapshot import BlockRow
from engine.spare_work import SpareWork
from engine.stepper import Stepper
from engine.turn_actions import TurnActions


def _has_nothing(_block_hash: bytes) -> bool:
    return False


class EngineCore:
    """Serves turns on one loaded model. Every method belongs to the engine's thread."""

    def __init__(self, parts: CoreParts, clock: Callable[[], float] = time.monotonic) -> None:
        """Makes an empty pool and an empty queue.

        Args:
            parts: What it is made of.
            clock: Monotonic seconds.
        """
        self._chat = parts.chat
        self._fingerprint = parts.fingerprint
        self._telemetry = parts.telemetry
        self._clock = clock
        self.pool = BlockPool(parts.num_blocks, parts.spec.block_bytes)
        self.agents = AgentStore(self.pool)
        self.scheduler = Scheduler(parts.limits)
        self._spec = parts.spec
        self.root_of = partial(root_hash, parts.fingerprint, parts.spec.kv_format)
        relief = Relief(self.pool, self.agents, parts.telemetry.note)
        self._pressure = Pressure(
            parts.memory, self.pool, self.scheduler, relief, parts.telemetry.note, clock
        )
        self._spare = SpareWork(self._let_go, parts.telemetry.note)
        self._residency = Residency(
            self.pool,
            self.agents,
            parts.runner,
            relief,
            parts.spec,
            self._spare,
            reuses=parts.reuses,
        )
        self.persistence = self._open(parts) if parts.tier and parts.reuses else None
        self._endings = Endings(
            parts.chat,
            self.scheduler,
            self._residency,
            self.agents,
            self.persistence,
            parts.telemetry,
            clock,
        )
        self.stepper = Stepper(
            parts.runner,
            self.scheduler,
            self._residency,
            self._endings,
            self._explainer(parts),
            self._pressure,
            self._recovery(parts),
            self._shortage(parts),
            parts.telemetry,
            clock,
        )
        self.publisher = Publisher(
            self.pool,
            self.agents,
            self.scheduler,
            self.persistence,
            lambda: self.max_context_tokens,
        )
        turns = TurnActions(self.agents, self.stepper, self._endings, parts.telemetry)
        self.actions = AgentActions(
            self.agents,
            self.persistence,
            parts.telemetry,
            clock,
            AgentTexts(self.agents, self.scheduler, parts.chat.spell).read,
            turns,
            parts.post,
        )

    def _explainer(self, parts: CoreParts) -> Explainer:
        return Explainer(
            persistence=self.persistence,
            reuses=parts.reuses,
            needs_checkpoints=parts.spec.needs_checkpoints,
            spell=parts.chat.spell,
            price=self.scheduler.prefill_eta_s,
        )

    def _recovery(self, parts: CoreParts) -> Recovery:
        return Recovery(
            self.pool,
            self.agents,
            self.scheduler,
            self.persistence.tier if self.persistence else None,
            parts.runner,
            self._spare,
            parts.telemetry.note,
        )

    def _shortage(self, parts: CoreParts) -> Shortage:
        return Shortage(
            self._residency, self.agents, self.scheduler, self._pressure, parts.telemetry.note
        )

    def _open(self, parts: CoreParts) -> Persistence:
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
            self.root_of,
            parts.spec,
            self._spare,
            make_room=self._make_room,
            post=parts.post,
            note=parts.telemetry.note,
            clocks=(self._clock, time.time),
        )
        parts.tier.on_recovered = lambda found: parts.post(lambda: persistence.recover(found))
        persistence.on_replies = parts.chat.recollect_replies
        persistence.adopt(parts.tier.open())
        self._residency.cutter.on_sealed = persistence.keep_block
        self._residency.relief.keeper = persistence
        self.agents.on_removed = persistence.forget
        self.agents.parent_on_disk = parts.tier.parent
        return persistence

    def _let_go(self) -> None:
        """Lets go of memory that nobody needs at once."""
        self.agents.standing.drop_all()
        self._pressure.give_back()

    def _make_room(self, num_blocks: int) -> bool:
        """Makes room for what was read from disk, as far as there is memory for it."""
        self._pressure.look(soon=True)
        return self._residency.relief.make_room(num_blocks, ())

    @property
    def max_context_tokens(self) -> int:
        """Tokens a sequence may have: what the model knows, or what the pool can hold."""
        num_fitting = max_tokens(self._spec, self.pool.num_total_blocks)
        return min(self._chat.max_context_tokens, num_fitting)

    def describe_block(self, block_id: int) -> BlockRow:
        """What is in one block of the pool.

        Raises:
            InvalidRequestError: There is no such block.
        """
        has_on_disk = self.persistence.tier.has if self.persistence else _has_nothing
        return describe_block(
            self.pool, self.agents, self.scheduler, has_on_disk, block_id, self._clock()
        )

    # Turns

    def note_tools(self, called: ToolsCalled) -> None:
        """Takes note that a reply has called tools."""
        agent = self.agents.find(called.agent_id, called.namespace)
        if agent is not None:
            self.agents.await_tools(agent, called.turn_number)

    def submit(self, command: Generate) -> str:
        """Queues a turn.

        Returns:
            Id of the agent it belongs to.

        Raises:
            StokerError: It cannot be queued; nothing has changed.
        """
        request = command.request
        if request.fingerprint not in ("", self._fingerprint):
            raise ModelChangedError()
        self._check_room(request)
        sampler = make_sampler(request, self._chat)
        agent = self.agents.resolve(
            request.agent_id, request.prompt_token_ids, request.agent_hint, request.namespace
        )
        agent.protocol = request.protocol
        agent.is_short_lived = request.is_short_lived
        sequence = Sequence(
            request=request,
            sink=command.sink,
            agent=agent,
            arrival_s=self._clock(),
            output=self._output(request),
            sampler=sampler,
            token_ids=list(request.prompt_token_ids),
            root_hash=self.root_of(request.namespace),
        )
        self.scheduler.add(sequence)
        self._endings.look_soon()
        self.agents.begin_turn(agent, sequence.arrival_s)
        self._residency.look_up(sequence)
        if self.persistence is not None:
            self.persistence.ahead.prefetch(sequence)
        return agent.agent_id

    def _check_room(self, request: Request) -> None:
        num_prompt = len(request.prompt_token_ids)
        if num_prompt >= self.max_context_tokens:
            raise ContextExceededError(num_prompt, self.max_context_tokens)
        if not self._residency.can_ever_hold(num_prompt + 1, request.agent_id, request.namespace):
            raise PoolExhaustedError(
                f"pinned agents leave no room for {num_prompt} tokens; unpin one or wait",
                self.scheduler.retry_after_s(self._clock()),
            )
        self._check_memory(request)

    def _check_memory(self, request: Request) -> None:
        num_prompt = len(request.prompt_token_ids)
        self._pressure.look(soon=True)
        if not self._pressure.leaves(sequence_slots(self._spec, num_prompt + 1)):
            raise PoolExhaustedError(
                f"there is no memory for {num_prompt} more tokens now; try again later",
                self.scheduler.retry_after_s(self._clock()),
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
                self._endings.abort(sequence, reason)
                return

    def abort_all(self, error: StokerError | None = None) -> None:
        """Ends every turn, with an error if one is given."""
        for sequence in list(self.scheduler):
            if error is None:
                self._endings.abort(sequence, "shutting down")
            else:
                self._endings.fail_somehow(sequence, error)

    def end_all(self, error: StokerError) -> None:
        """Ends every turn with an error that is not its own; what was computed is kept."""
        for sequence in list(self.scheduler):
            self._endings.end(sequence, error)

    @property
    def is_writing(self) -> bool:
        """Whether the disk still has blocks to write, and takes them."""
        if self.persistence is None:
            return False
        stats = self.persistence.tier.stats
        return stats.is_on and stats.num_pending > 0

    def close(self, flush_s: float) -> None:
        """Writes what the disk has not got yet, for a limited time, and lets the folder go.

        Args:
            flush_s: The limit in seconds.
        """
        if self.persistence is not None:
            self.persistence.tier.close(flush_s)
        # Whoever still waits for the disk waits in vain.
        self.actions.close()

    # Steps

    def step(self) -> None:
        """Decodes one token of every running sequence and prefills one slice of one prompt."""
        self.stepper.step()
