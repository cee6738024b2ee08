"""The engine without its thread: turns in, one step at a time, deltas out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.cache.agents import Agent, AgentStore, LastTurn
from engine.cache.block import BLOCK_TOKENS, root_hash
from engine.cache.pool import BlockPool
from engine.cache.spec import CacheSpec
from engine.commands import Generate
from engine.errors import (
    ContextExceededError,
    EngineFailedError,
    PoolExhaustedError,
    StokerError,
)
from engine.models.chat import ModelChat
from engine.models.stops import StopMatcher
from engine.output import Output
from engine.publisher import StepReading
from engine.request import Delta, FinishReason, Request
from engine.residency import Residency
from engine.runtime.runner import DecodeRow, ModelRunner
from engine.runtime.sampling import Sampler
from engine.scheduler import Scheduler, SchedulerLimits
from engine.sequence import Sequence, SequenceStatus
from engine.telemetry import Telemetry


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
    """

    runner: ModelRunner
    chat: ModelChat
    spec: CacheSpec
    fingerprint: str
    reuses: bool
    num_blocks: int
    limits: SchedulerLimits
    telemetry: Telemetry


class EngineCore:
    """Serves turns on one loaded model. Every method belongs to the engine's thread."""

    def __init__(self, parts: CoreParts, clock: Callable[[], float] = time.monotonic) -> None:
        """Makes an empty pool and an empty queue.

        Args:
            parts: What it is made of.
            clock: Monotonic seconds.
        """
        self._runner = parts.runner
        self._chat = parts.chat
        self._telemetry = parts.telemetry
        self._clock = clock
        self.pool = BlockPool(parts.num_blocks, parts.spec.block_bytes)
        self.agents = AgentStore(self.pool)
        self.scheduler = Scheduler(parts.limits)
        self.reading = StepReading()
        self._residency = Residency(
            self.pool,
            self.agents,
            parts.runner,
            root_hash(parts.fingerprint, parts.spec.kv_format),
            reuses=parts.reuses,
            note=parts.telemetry.note,
        )

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
        return agent.agent_id

    def _check_room(self, request: Request) -> None:
        num_prompt = len(request.prompt_token_ids)
        if num_prompt >= self.max_context_tokens:
            raise ContextExceededError(num_prompt, self.max_context_tokens)
        if not self._residency.can_ever_hold(num_prompt + 1):
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
                self._abort(sequence, reason)
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
            self._abort(sequence, "aborted by hand")
        return len(ended)

    def abort_all(self, error: StokerError | None = None) -> None:
        """Ends every turn, with an error if one is given."""
        for sequence in list(self.scheduler):
            if error is None:
                self._abort(sequence, "shutting down")
            else:
                self._fail(sequence, error)

    def _abort(self, sequence: Sequence, reason: str) -> None:
        self._telemetry.note(
            "abort",
            f"{sequence.agent.agent_id}: {reason} after {sequence.num_generated_tokens} tokens",
        )
        self._finish(sequence, FinishReason.ABORTED)

    def _fail(self, sequence: Sequence, error: StokerError) -> None:
        self._telemetry.note("error", f"{sequence.agent.agent_id}: {error}", "error")
        # What a failed step left behind is not to be trusted.
        sequence.num_computed_tokens = 0
        self._finish(sequence, FinishReason.ERROR, error)

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
            "evict", f"{agent_id}: {num_tokens} tokens, {num_bytes >> 20} MB (by hand)"
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
        return pinned

    # Steps

    def step(self) -> None:
        """Admits, decodes one token of every sequence, prefills one slice, sends deltas."""
        self._admit()
        decoding = self._grow(self.scheduler.decoding)
        self.reading.num_decoding = len(decoding)
        if decoding:
            self._decode(decoding)
        self._prefill()

    def _admit(self) -> None:
        scheduler = self.scheduler
        running = scheduler.running
        admitted = scheduler.admit(lambda s: self._residency.admit(s, running))
        for sequence in admitted:
            if sequence.started_s is None:
                self._start(sequence)
            if sequence.num_remaining_tokens <= 1:
                sequence.status = SequenceStatus.DECODING
        if not running and scheduler.waiting:
            # Nothing runs that could end and make room.
            error = PoolExhaustedError(
                "pinned agents leave no room for this request; unpin one or wait",
                scheduler.retry_after_s(),
            )
            self._fail(scheduler.waiting[0], error)

    def _start(self, sequence: Sequence) -> None:
        sequence.started_s = self._clock()
        if sequence.last_miss:
            self._telemetry.note("miss", f"{sequence.agent.agent_id}: {sequence.last_miss}")
        self._send(sequence)

    def _grow(self, decoding: Iterable[Sequence]) -> list[Sequence]:
        """Pays for the next token of each; those that find no room wait or make others wait."""
        for sequence in sorted(decoding, key=lambda s: s.arrival_s):
            while sequence.status is SequenceStatus.DECODING:
                if self._residency.grow(sequence, self.scheduler.running):
                    break
                self._preempt_for(sequence)
        return self.scheduler.decoding

    def _preempt_for(self, sequence: Sequence) -> None:
        youngest = self.scheduler.youngest_running()
        if youngest is None or len(self.scheduler.running) == 1:
            error = PoolExhaustedError(
                "the KV cache budget is used up", self.scheduler.retry_after_s()
            )
            self._fail(sequence, error)
            return
        self._telemetry.note(
            "preempt", f"{youngest.agent.agent_id} waits for {sequence.agent.agent_id}", "warning"
        )
        self._residency.preempt(youngest)
        self.scheduler.requeue(youngest)

    def _decode(self, decoding: list[Sequence]) -> None:
        began_s = self._clock()
        rows = [DecodeRow(s.caches, s.token_ids, s.sampler) for s in decoding]
        chosen = self._runner.decode(rows)
        now_s = self._clock()
        self.reading.decode_s = now_s - began_s
        self._telemetry.decoded(now_s, len(decoding), now_s - began_s)
        for sequence, token_id in zip(decoding, chosen, strict=True):
            self._append(sequence, token_id, now_s)

    def _append(self, sequence: Sequence, token_id: int | None, now_s: float) -> None:
        if token_id is None:
            self._fail(
                sequence, EngineFailedError("the model produced numbers that are not finite")
            )
            return
        sequence.num_computed_tokens += 1
        self._residency.share_computed_block(sequence)
        sequence.token_ids.append(token_id)
        sequence.sampler.observe(token_id)
        sequence.output.add(token_id)
        if sequence.first_token_s is None:
            sequence.first_token_s = now_s
            self._telemetry.first_token(now_s - sequence.arrival_s)
            self._telemetry.prompted(sequence.num_prompt_tokens, sequence.num_cached_tokens)
        if sequence.output.finish_reason is None:
            self._send(sequence)
        else:
            self._finish(sequence, sequence.output.finish_reason)

    def _prefill(self) -> None:
        sequence = self.scheduler.next_prefill(self._clock())
        self.reading.prefilling = sequence.agent.agent_id if sequence else ""
        if sequence is None:
            self.reading.slice_tokens = 0
            self.reading.stall_ms = 0.0
            return
        num_known = self._residency.skip_known_blocks(sequence)
        if sequence.num_generated_tokens == 0:
            sequence.num_cached_tokens += num_known
        # The last token's logits are needed, so it goes with the next decode step.
        num_due = sequence.num_remaining_tokens - 1
        if num_due > 0:
            self._prefill_slice(sequence, num_due)
        if sequence.num_remaining_tokens <= 1:
            sequence.status = SequenceStatus.DECODING

    def _prefill_slice(self, sequence: Sequence, num_due: int) -> None:
        num_decoding = len(self.scheduler.decoding)
        start = sequence.num_computed_tokens
        # Slices end at block boundaries, so that each block can be shared once it is complete.
        to_boundary = BLOCK_TOKENS - start % BLOCK_TOKENS
        num_tokens = min(num_due, to_boundary, self.scheduler.slice_tokens(num_decoding))
        began_s = self._clock()
        self._runner.prefill(sequence.caches, sequence.token_ids[start : start + num_tokens])
        now_s = self._clock()
        sequence.num_computed_tokens += num_tokens
        self._residency.share_computed_block(sequence)
        self.scheduler.observe_prefill(num_tokens, now_s - began_s)
        self._telemetry.prefilled(now_s, num_tokens, now_s - began_s)
        self.reading.slice_tokens = num_tokens
        self.reading.stall_ms = (now_s - began_s) * 1000 if num_decoding else 0.0

    def _finish(
        self, sequence: Sequence, reason: FinishReason, error: StokerError | None = None
    ) -> None:
        self.scheduler.remove(sequence)
        if sequence.caches is not None:
            self._residency.keep(sequence)
        agent = sequence.agent
        now_s = self._clock()
        agent.num_active -= 1
        agent.num_turns += 1
        agent.prompt_token_ids = sequence.request.prompt_token_ids
        self.agents.touch(agent, now_s)
        self._telemetry.turn_finished()
        self.scheduler.observe_turn(now_s - sequence.arrival_s)
        agent.last_turn = _last_turn(sequence)
        self._send(sequence, reason, error)

    def _send(
        self,
        sequence: Sequence,
        reason: FinishReason | None = None,
        error: StokerError | None = None,
    ) -> None:
        text, token_ids = sequence.output.take()
        sequence.sink(
            Delta(
                request_id=sequence.request.request_id,
                agent_id=sequence.agent.agent_id,
                text=text,
                token_ids=token_ids,
                usage=sequence.usage,
                finish_reason=reason,
                stop_string=sequence.output.stop_string,
                error=error,
            )
        )

    def active_sequence(self, agent: Agent) -> Sequence | None:
        """The turn an agent has in progress, a running one first."""
        return next((s for s in self.scheduler if s.agent is agent), None)


def _last_turn(sequence: Sequence) -> LastTurn:
    return LastTurn(
        num_prompt_tokens=sequence.num_prompt_tokens,
        num_cached_tokens=sequence.num_cached_tokens,
        num_generated_tokens=sequence.num_generated_tokens,
        ttft_s=sequence.ttft_s,
        miss=sequence.last_miss,
    )
