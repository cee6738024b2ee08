"""Tells a listener what the scheduler and the cache decide, one plain record for each decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.request import FinishReason
from engine.sequence import Sequence
from engine.snapshot import MissRow

Fact = str | int | float | bool | None
Record = dict[str, Fact]
"""One decision: its time, its kind, and what it was based on. No prompt, no reply."""
TraceSink = Callable[[Record], None]
"""Takes records on the engine's thread; must not block."""

SUMMARY_S = 1.0
"""Decode steps are told together, for so long at most."""


class Note(Protocol):
    """Takes an event for people, with what it was based on for programs."""

    def __call__(self, kind: str, text: str, level: str = "info", /, **facts: Fact) -> None:
        """Notes it."""


class Trace:
    """Makes records of decisions. Belongs to the engine's thread.

    Without a sink it does nothing. Decode steps come many times a second and one is like the
    other, so they are told in one record for each second, or before the next other decision.
    """

    def __init__(self, sink: TraceSink | None, wall_clock: Callable[[], float]) -> None:
        """Starts with nothing told.

        Args:
            sink: Who listens; None for nobody.
            wall_clock: Seconds since the epoch.
        """
        self._sink = sink
        self._wall_clock = wall_clock
        self._num_steps = 0
        self._num_tokens = 0
        self._decode_s = 0.0
        self._longest_s = 0.0

    def write(self, kind: str, **facts: Fact) -> None:
        """Tells one decision."""
        if self._sink is not None:
            self._tell_steps()
            self._sink({"time": self._wall_clock(), "kind": kind, **facts})

    def admitted(
        self, sequence: Sequence, now_s: float, num_running: int, num_waiting: int
    ) -> None:
        """A turn, new or preempted before, was taken into the batch.

        Args:
            sequence: The turn.
            now_s: Monotonic seconds.
            num_running: Turns in the batch, with this one.
            num_waiting: Turns that wait still.
        """
        self.write(
            "admit",
            **whose(sequence),
            num_tokens=len(sequence.token_ids),
            wait_s=round(now_s - sequence.arrival_s, 6),
            num_running=num_running,
            num_waiting=num_waiting,
        )
        self.matched(sequence, sequence.num_computed_tokens, sequence.num_restored_tokens)

    def matched(self, sequence: Sequence, num_tokens: int, num_restored_tokens: int = 0) -> None:
        """Part of a prompt was found in the pool.

        Args:
            sequence: Whose prompt.
            num_tokens: How much was found.
            num_restored_tokens: How much of that had been read from disk for it.
        """
        self.write(
            "match",
            **whose(sequence),
            num_tokens=num_tokens,
            num_restored_tokens=num_restored_tokens,
            num_remaining_tokens=sequence.num_remaining_tokens,
        )

    def sliced(
        self, sequence: Sequence, num_tokens: int, seconds: float, num_decoding: int
    ) -> None:
        """A slice of a prompt was computed.

        Args:
            sequence: Whose prompt.
            num_tokens: Length of the slice.
            seconds: How long it took.
            num_decoding: Turns that waited for it.
        """
        self.write(
            "slice",
            **whose(sequence),
            num_tokens=num_tokens,
            seconds=round(seconds, 6),
            num_decoding=num_decoding,
            num_remaining_tokens=sequence.num_remaining_tokens,
        )

    def decoded(self, num_sequences: int, seconds: float) -> None:
        """A decode step was run for that many turns."""
        if self._sink is None:
            return
        self._num_steps += 1
        self._num_tokens += num_sequences
        self._decode_s += seconds
        self._longest_s = max(self._longest_s, seconds)
        if self._decode_s >= SUMMARY_S:
            self._tell_steps()

    def finished(self, sequence: Sequence, reason: FinishReason) -> None:
        """A turn ended, however."""
        self.write(
            "finish",
            **whose(sequence),
            reason=reason.value,
            num_prompt_tokens=sequence.num_prompt_tokens,
            num_generated_tokens=sequence.num_generated_tokens,
            num_kept_tokens=sequence.num_kept_tokens,
        )

    def _tell_steps(self) -> None:
        if self._sink is None or not self._num_steps:
            return
        self._sink(
            {
                "time": self._wall_clock(),
                "kind": "decode",
                "num_steps": self._num_steps,
                "num_tokens": self._num_tokens,
                "seconds": round(self._decode_s, 6),
                "longest_s": round(self._longest_s, 6),
            }
        )
        self._num_steps = self._num_tokens = 0
        self._decode_s = self._longest_s = 0.0


def whose(sequence: Sequence) -> dict[str, Fact]:
    """Which request and agent a decision was about."""
    return {"request_id": sequence.request.request_id, "agent": sequence.agent.agent_id}


def loss(miss: MissRow) -> dict[str, Fact]:
    """Why known tokens are computed again."""
    return {
        "cause": miss.cause.value,
        "part": miss.part,
        "changed_token": miss.changed_token,
        "num_lost_tokens": miss.num_lost_tokens,
        "lost_s": miss.lost_s,
    }
