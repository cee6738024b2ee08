"""One step of the engine: admit, decode a token of every sequence, prefill a slice of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.endings import Endings
from engine.errors import (
    ConstraintFailedError,
    EngineFailedError,
    OutOfMemoryError,
    PoolExhaustedError,
)
from engine.explainer import Explainer
from engine.pressure import Pressure
from engine.publisher import StepReading
from engine.recovery import Recovery
from engine.request import FinishReason
from engine.residency import Residency
from engine.runtime.runner import Chosen, DecodeRow, ModelRunner
from engine.scheduler import Scheduler
from engine.sequence import Sequence, SequenceStatus
from engine.shortage import Shortage
from engine.telemetry import Telemetry
from engine.trace import loss, whose
from engine.turn_timer import Phase


class Stepper:
    """Takes sequences from admission to their end. Belongs to the engine's thread."""

    def __init__(
        self,
        runner: ModelRunner,
        scheduler: Scheduler,
        residency: Residency,
        endings: Endings,
        explainer: Explainer,
        pressure: Pressure,
        recovery: Recovery,
        shortage: Shortage,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        """Wires the parts.

        Args:
            runner: Runs the model.
            scheduler: Says who is next.
            residency: Makes room, restores and keeps.
            endings: Ends turns.
            explainer: Says why known tokens are computed again.
            pressure: Keeps the pool within the memory there is.
            recovery: Tells a spoilt cache from a model that fails.
            shortage: Takes sequences back when a step found no memory.
            telemetry: Takes events and measurements.
            clock: Monotonic seconds.
        """
        self._runner = runner
        self._residency = residency
        self._endings = endings
        self._explainer = explainer
        self._pressure = pressure
        self._recovery = recovery
        self._shortage = shortage
        self._telemetry = telemetry
        self._clock = clock
        self.scheduler = scheduler
        self.reading = StepReading()

    def step(self) -> None:
        """Admits, decodes one token of every sequence, prefills one slice, sends deltas."""
        self._pressure.look(soon=bool(self.scheduler.waiting))
        self._endings.end_hopeless()
        self._admit()
        decoding = self._grow(self.scheduler.decoding)
        self.reading.num_decoding = len(decoding)
        if decoding:
            self._decode(decoding)
        self._prefill()

    def _admit(self) -> None:
        scheduler = self.scheduler
        running = scheduler.running
        admitted = scheduler.admit(lambda s: self._residency.admit(s, scheduler))
        for sequence in admitted:
            self._recovery.admit(sequence)
            if sequence.num_generated_tokens == 0 or sequence.avoids_cache:
                self._explainer.begin(sequence)
            sequence.timer.enter(Phase.PREFILL, self._clock())
            self._telemetry.trace.admitted(
                sequence, self._clock(), len(scheduler.running), len(scheduler.waiting)
            )
            if sequence.started_s is None:
                self._start(sequence)
            if sequence.num_remaining_tokens <= 1 and sequence.output.max_tokens:
                sequence.status = SequenceStatus.DECODING
        restoring = any(sequence.is_restoring for sequence in scheduler.waiting)
        first = next((sequence for sequence in scheduler.waiting if sequence.is_ready), None)
        if first is not None and not running and not restoring:
            # Nothing runs, or is about to, that could end and make room.
            others = [sequence for sequence in scheduler.waiting if sequence is not first]
            if not first.was_cleared_for:
                first.was_cleared_for = True
                self._residency.relief.clear(others)
                return
            error = PoolExhaustedError(
                "pinned agents leave no room for this request; unpin one or wait",
                scheduler.retry_after_s(self._clock()),
            )
            self._endings.fail(first, error)

    def _start(self, sequence: Sequence) -> None:
        sequence.started_s = self._clock()
        self._endings.send(sequence)

    def _grow(self, decoding: Iterable[Sequence]) -> list[Sequence]:
        """Pays for the next token of each; those that find no room wait or make others wait."""
        for sequence in sorted(decoding, key=lambda s: s.due_s):
            while sequence.status is SequenceStatus.DECODING:
                if self._residency.grow(sequence, self.scheduler):
                    break
                self._preempt_for(sequence)
        return self.scheduler.decoding

    def _preempt_for(self, sequence: Sequence) -> None:
        youngest = self.scheduler.youngest_running()
        if youngest is None or len(self.scheduler.running) == 1:
            error = PoolExhaustedError(
                "the KV cache budget is used up", self.scheduler.retry_after_s(self._clock())
            )
            self._endings.fail(sequence, error)
            return
        self._telemetry.note(
            "preempt",
            f"{youngest.agent.agent_id} waits for {sequence.agent.agent_id}",
            "warning",
            **whose(youngest),
            num_computed_tokens=youngest.num_computed_tokens,
            waits_for=sequence.request.request_id,
        )
        self.interrupt(youngest)

    def interrupt(self, sequence: Sequence) -> None:
        """Puts a running sequence back into the queue; it goes on from there when it can."""
        self._residency.preempt(sequence)
        self._requeue(sequence)

    def _requeue(self, sequence: Sequence) -> None:
        self.scheduler.requeue(sequence)
        sequence.timer.enter(Phase.QUEUE, self._clock())

    def _decode(self, decoding: list[Sequence]) -> None:
        began_s = self._clock()
        rows = [DecodeRow(s.caches, s.token_ids, s.sampler) for s in decoding]
        try:
            chosen = self._runner.decode(rows)
        except OutOfMemoryError as error:
            self._run_short(decoding, error)
            return
        now_s = self._clock()
        self.reading.decode_s = now_s - began_s
        self._telemetry.decoded(now_s, len(decoding), now_s - began_s)
        self._telemetry.trace.decoded(len(decoding), now_s - began_s)
        for sequence, token_id in zip(decoding, chosen, strict=True):
            try:
                self._append(sequence, token_id, now_s)
            except ConstraintFailedError as error:
                self._endings.fail(sequence, error)

    def _run_short(self, sequences: list[Sequence], error: OutOfMemoryError) -> None:
        refused = self._shortage.meet(sequences, error)
        if refused is not None:
            text = "the machine ran out of memory during this turn; try again later"
            retry_after_s = self.scheduler.retry_after_s(self._clock())
            self._endings.fail(refused, PoolExhaustedError(text, retry_after_s))

    def _append(self, sequence: Sequence, token_id: Chosen, now_s: float) -> None:
        if token_id is None:
            self._compute_again(sequence)
            return
        if isinstance(token_id, ConstraintFailedError):
            raise token_id
        sequence.timer.enter(Phase.DECODE, now_s)
        sequence.sampler.observe(token_id)
        if sequence.avoids_cache:
            self._recovery.settle(sequence)
        sequence.num_computed_tokens += 1
        self._residency.share_computed_block(sequence)
        sequence.token_ids.append(token_id)
        sequence.output.add(token_id, sequence.sampler.logprob)
        if sequence.sampler.is_over:
            sequence.output.end()
        if sequence.first_token_s is None:
            sequence.first_token_s = now_s
            self._telemetry.first_token(now_s - sequence.arrival_s)
            self._tell_miss(sequence)
        if sequence.output.finish_reason is None:
            self._endings.send(sequence)
        else:
            self._endings.finish(sequence, sequence.output.finish_reason)

    def _compute_again(self, sequence: Sequence) -> None:
        """After logits that are not finite: once more without the cache, or not at all."""
        if self._recovery.begin(sequence):
            self._residency.release(sequence)
            sequence.num_computed_tokens = 0
            self._requeue(sequence)
            return
        self._recovery.give_up(sequence)
        text = "the model gave numbers that are not finite; change the prompt or the model"
        self._endings.fail(sequence, EngineFailedError(text))

    def _tell_miss(self, sequence: Sequence) -> None:
        """Counts a prompt that was taken in, and says why known tokens were computed again."""
        self._explainer.settle(sequence)
        self._telemetry.prompted(sequence.miss)
        miss = sequence.miss
        if miss.num_lost_tokens:
            self._telemetry.note(
                "miss",
                f"{sequence.agent.agent_id}: {miss.words}",
                **whose(sequence),
                **loss(miss),
            )

    def _prefill(self) -> None:
        sequence = self.scheduler.next_prefill(self._clock())
        self.reading.prefilling = sequence.agent.agent_id if sequence else ""
        if sequence is None:
            self.reading.slice_tokens = 0
            self.reading.stall_ms = 0.0
            return
        try:
            self._take_known(sequence)
            # The last token's logits are needed, so it goes with the next decode step.
            num_due = sequence.num_remaining_tokens - 1
            if num_due > 0:
                self._prefill_slice(sequence, num_due)
        except OutOfMemoryError as error:
            self._run_short([sequence], error)
            return
        if sequence.num_remaining_tokens <= 1:
            self._end_prefill(sequence)

    def _take_known(self, sequence: Sequence) -> None:
        """Takes over what others have computed of a prompt meanwhile."""
        start = sequence.num_computed_tokens
        num_known = self._residency.restorer.skip_known_blocks(sequence)
        if sequence.num_generated_tokens == 0:
            sequence.num_cached_tokens += num_known
            self._explainer.found(sequence, start, num_known)
        if num_known:
            self._telemetry.trace.matched(sequence, num_known)

    def _end_prefill(self, sequence: Sequence) -> None:
        if sequence.output.max_tokens:
            sequence.status = SequenceStatus.DECODING
            return
        # Only the prompt was to be computed. Its last token always is the next turn's first.
        self._tell_miss(sequence)
        self._endings.finish(sequence, FinishReason.MAX_TOKENS)

    def _prefill_slice(self, sequence: Sequence, num_due: int) -> None:
        num_decoding = len(self.scheduler.decoding)
        start = sequence.num_computed_tokens
        # Slices end where a block or checkpoint is complete, so that it can be shared at once.
        to_stop = self._residency.num_tokens_to_stop(sequence)
        num_tokens = min(num_due, to_stop, self.scheduler.slice_tokens(num_decoding))
        began_s = self._clock()
        self._runner.prefill(sequence.caches, sequence.token_ids[start : start + num_tokens])
        now_s = self._clock()
        sequence.num_computed_tokens += num_tokens
        self._residency.share_computed_block(sequence)
        self.scheduler.observe_prefill(num_tokens, now_s - began_s)
        self._telemetry.prefilled(now_s, num_tokens, now_s - began_s)
        self._telemetry.trace.sliced(sequence, num_tokens, now_s - began_s, num_decoding)
        self.reading.slice_tokens = num_tokens
        self.reading.stall_ms = (now_s - began_s) * 1000 if num_decoding else 0.0
