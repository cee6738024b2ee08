"""Who runs next: a bounded queue, one decode step for all, one prefill slice by a time budget.

Pure: time is passed in, nothing is read or written, no tensor is touched.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter

from engine.errors import QueueFullError
from engine.sequence import Sequence, SequenceStatus
from engine.turn_rate import TurnRate

RATE_MEMORY = 0.8
"""Weight of the past in the running average of prefill seconds per token."""


CERTAIN_SHARE = 0.7
"""Prefilling may turn out to take only this share of what was measured: small slices, and others
that compute meanwhile, cost more than a prompt alone does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """Bounds of the scheduler.

    Attributes:
        max_waiting: Requests that may wait.
        max_running: Sequences that may run at once.
        decode_stall_ms: How long a prefill slice may keep decoders waiting, in milliseconds.
        min_slice_tokens: Prefill slices are not cut shorter than this.
        max_slice_tokens: Prefill slices are not longer than this, even when nobody decodes.
        batch_window_ms: How long an idle engine waits for company after the first request, in
            milliseconds.
    """

    max_waiting: int = 256
    max_running: int = 32
    decode_stall_ms: float = 200.0
    min_slice_tokens: int = 16
    max_slice_tokens: int = 512
    batch_window_ms: float = 10.0


_due_s = attrgetter("due_s")


class Scheduler:
    """Holds the waiting queue, in the order in which turns are due, and the running batch."""

    def __init__(self, limits: SchedulerLimits) -> None:
        """Makes an empty scheduler."""
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._prefill_s_per_token: float | None = None
        self._rate = TurnRate()

    def __iter__(self) -> Iterator[Sequence]:
        """Every sequence, running ones first."""
        yield from self.running
        yield from self.waiting

    @property
    def has_work(self) -> bool:
        """Whether anything runs, or waits for something other than a person."""
        return bool(self.running) or any(not s.agent.paused for s in self.waiting)

    @property
    def can_step(self) -> bool:
        """Whether a step would have something to do."""
        return bool(self.running) or any(s.is_ready for s in self.waiting)

    @property
    def decoding(self) -> list[Sequence]:
        """Running sequences whose next token can be computed."""
        return [s for s in self.running if s.status is SequenceStatus.DECODING]

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence.

        Raises:
            QueueFullError: The queue is at its bound.
        """
        if len(self.waiting) >= self.limits.max_waiting:
            raise QueueFullError(
                f"{len(self.waiting)} requests are waiting already; try again later",
                self.retry_after_s(sequence.arrival_s),
            )
        self._rate.begin(sequence.arrival_s)
        bisect.insort_right(self.waiting, sequence, key=_due_s)

    def requeue(self, sequence: Sequence) -> None:
        """Puts a running sequence back into the queue, before those that were due with it."""
        self.running.remove(sequence)
        sequence.status = SequenceStatus.WAITING
        bisect.insort_left(self.waiting, sequence, key=_due_s)

    def reorder(self) -> None:
        """Puts the queue into order after a priority has changed."""
        self.waiting = deque(sorted(self.waiting, key=_due_s))

    def set_batch_window(self, window_ms: float) -> None:
        """Changes how long an idle engine waits for company, in milliseconds."""
        self.limits = replace(self.limits, batch_window_ms=window_ms)

    def admit(self, make_room: Callable[[Sequence], bool]) -> list[Sequence]:
        """Moves waiting sequences into the running batch, in the order in which they are due.

        Among equal priorities that is first come, first served. One turn of an agent runs at a
        time, and none of a paused one. A sequence that finds no room stops those behind it, so
        that a large one is not overtaken for ever.

        Args:
            make_room: Whether there is room for a sequence; takes it if so.

        Returns:
            The sequences admitted now.
        """
        admitted: list[Sequence] = []
        passed_over: list[Sequence] = []
        busy = {s.agent.key for s in self.running}
        try:
            while self.waiting and len(self.running) < self.limits.max_running:
                sequence = self.waiting.popleft()
                passed_over.append(sequence)
                if not sequence.is_ready or sequence.agent.key in busy:
                    continue
                if not make_room(sequence):
                    break
                passed_over.pop()
                busy.add(sequence.agent.key)
                sequence.status = SequenceStatus.PREFILLING
                self.running.append(sequence)
                admitted.append(sequence)
        finally:
            # Even if making room fails: whoever waits must be there to be told.
            self.waiting.extendleft(reversed(passed_over))
        return admitted

    def next_prefill(self, now_s: float) -> Sequence | None:
        """The running sequence whose prompt is worked on next.

        The shortest remaining work first, with waiting time counted in its favour: a second
        waited outweighs half a second of work, so nobody starves behind newcomers. Priority is
        time waited.

        Args:
            now_s: Monotonic seconds.
        """
        prefilling = [s for s in self.running if s.status is SequenceStatus.PREFILLING]
        if not prefilling:
            return None
        s_per_token = self._prefill_s_per_token or 0.001
        return min(
            prefilling,
            key=lambda s: s.num_remaining_tokens * s_per_token - 0.5 * (now_s - s.due_s),
        )

    def hopeless(self, now_s: float, num_known_tokens: Callable[[Sequence], int]) -> list[Sequence]:
        """Sequences that cannot begin to answer before their deadlines, even if they had all.

        Args:
            now_s: Monotonic seconds.
            num_known_tokens: How much of a sequence is computed, or need not be.
        """
        silent = (s for s in self if s.deadline_s is not None and s.first_token_s is None)
        return [s for s in silent if self._is_hopeless(s, now_s, num_known_tokens(s))]

    def _is_hopeless(self, sequence: Sequence, now_s: float, num_known_tokens: int) -> bool:
        assert sequence.deadline_s is not None
        eta_s = self.prefill_eta_s(len(sequence.token_ids) - num_known_tokens) or 0.0
        return now_s + CERTAIN_SHARE * eta_s >= sequence.deadline_s

    def slice_tokens(self, num_decoding: int) -> int:
        """Length of the next prefill slice in tokens.

        Args:
            num_decoding: Sequences that wait for the slice to end; 0 allows the longest slice.
        """
        limits = self.limits
        if num_decoding == 0:
            return limits.max_slice_tokens
        if self._prefill_s_per_token is None:
            return limits.min_slice_tokens
        fitting = int(limits.decode_stall_ms / 1000 / self._prefill_s_per_token)
        return max(limits.min_slice_tokens, min(limits.max_slice_tokens, fitting))

    def observe_prefill(self, num_tokens: int, seconds: float) -> None:
        """Learns from a prefill slice how long a token takes."""
        measured = seconds / max(1, num_tokens)
        if self._prefill_s_per_token is None:
            self._prefill_s_per_token = measured
        else:
            past = RATE_MEMORY * self._prefill_s_per_token
            self._prefill_s_per_token = past + (1 - RATE_MEMORY) * measured

    def observe_end(self, now_s: float) -> None:
        """Learns from a turn that was removed how often one ends."""
        self._rate.end(now_s, is_idle=not self.has_work)

    def prefill_eta_s(self, num_tokens: int) -> float | None:
        """Estimated seconds to prefill a number of tokens; None before anything was measured."""
        if self._prefill_s_per_token is None:
            return None
        return num_tokens * self._prefill_s_per_token

    def retry_after_s(self, now_s: float) -> float:
        """When whoever is turned away now should find a place, from the turns that ended lately.

        Args:
            now_s: Monotonic seconds.

        Returns:
            Seconds from now; later for everybody after the first who is told.
        """
        return self._rate.promise_s(now_s)

    def remove(self, sequence: Sequence) -> None:
        """Takes a sequence out, wherever it is."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.status = SequenceStatus.FINISHED

    def youngest_running(self) -> Sequence | None:
        """The running sequence that was due last: the one to preempt."""
        return max(self.running, key=_due_s, default=None)
