"""What to do when the device finds no memory for a step: take its sequences back, and try again."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items

from engine.cache.agents import AgentStore
from engine.errors import OutOfMemoryError
from engine.pressure import Pressure
from engine.residency import Residency
from engine.scheduler import Scheduler
from engine.sequence import Sequence

Note = Callable[[str, str, str], None]
"""Takes an event: kind, text and level."""


class Shortage:
    """Keeps the engine going when a step fails for want of memory. Belongs to the engine's thread.

    A step that broke off may have written to some layers of a cache and not to others, so its
    sequences give their caches up. The blocks that they were made of are copies, and sound: the
    sequences wait, and go on from there to the same tokens.
    """

    def __init__(
        self,
        residency: Residency,
        agents: AgentStore,
        scheduler: Scheduler,
        pressure: Pressure,
        note: Note,
    ) -> None:
        """Wires the parts.

        Args:
            residency: Takes caches away.
            agents: Give up the caches that stand from their last turns.
            scheduler: Takes sequences back into the queue.
            pressure: Gives freed buffers back to the system.
            note: Takes events.
        """
        self._residency = residency
        self._agents = agents
        self._scheduler = scheduler
        self._pressure = pressure
        self._note = note

    def meet(self, sequences: Items[Sequence], error: OutOfMemoryError) -> Sequence | None:
        """Takes back the sequences of a step that found no memory.

        Args:
            sequences: Everyone in the step, at least one; all are running.
            error: What the device said.

        Returns:
            The youngest of them, still running, if one of them had been taken back before: with
            all of them it does not go. None where all wait.
        """
        is_repeated = any(sequence.num_shortages for sequence in sequences)
        youngest = max(sequences, key=lambda s: s.arrival_s)
        refused = youngest if is_repeated else None
        for sequence in sorted(sequences, key=lambda s: s.arrival_s, reverse=True):
            self._residency.release(sequence)
            sequence.num_computed_tokens = 0
            sequence.num_shortages += 1
            if sequence is not refused:
                self._scheduler.requeue(sequence)
        self._agents.standing.drop_all()
        self._pressure.give_back()
        self._note(
            "memory",
            f"no memory for a step of {len(sequences)} turns, which go on from their blocks "
            f"({error})",
            "warning",
        )
        return refused
