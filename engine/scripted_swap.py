"""One change of model in a scripted world: its parts, how far it is, and when each is over."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.model_commands import SwapModel
from engine.scripted_models import ShelfModel
from engine.snapshot import SwapParts, SwapPhase, SwapReport, SwapRow

UNLOAD_S = 0.3
REBUILD_S = 0.2
FAILS_AT = 0.6
"""Share of a load after which a model that cannot be read is given up."""
_SHARES: dict[SwapPhase, tuple[float, float]] = {
    SwapPhase.DRAINING: (0.0, 0.1),
    SwapPhase.SAVING: (0.1, 0.2),
    SwapPhase.UNLOADING: (0.2, 0.25),
    SwapPhase.LOADING: (0.25, 0.85),
    SwapPhase.CHECKING: (0.85, 0.97),
    SwapPhase.REBUILDING: (0.97, 1.0),
    SwapPhase.RESTORING: (0.5, 1.0),
}
"""Where each part begins and ends in the whole."""
_TIMED = (SwapPhase.UNLOADING, SwapPhase.LOADING, SwapPhase.CHECKING, SwapPhase.REBUILDING)


@dataclass(slots=True, kw_only=True)
class ScriptedSwap:
    """A swap under way; times are seconds of the scene.

    Attributes:
        command: Who asked for it.
        from_model: The model that goes.
        to_model: The model that comes.
        begun_s: When it began.
        phase: The part under way.
        phase_begun_s: When that began.
        took: What the parts before it took.
    """

    command: SwapModel
    from_model: ShelfModel
    to_model: ShelfModel
    begun_s: float
    phase: SwapPhase = SwapPhase.DRAINING
    phase_begun_s: float = 0.0
    took: dict[SwapPhase, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.phase_begun_s = self.begun_s

    def enter(self, phase: SwapPhase, now_s: float) -> None:
        """Goes on to another part."""
        self.took[self.phase] = now_s - self.phase_begun_s
        self.phase, self.phase_begun_s = phase, now_s

    def is_past_deadline(self, now_s: float) -> bool:
        """Whether running turns had all the time that they were given."""
        return now_s - self.begun_s >= self.command.drain_s

    def is_phase_over(self, now_s: float) -> bool:
        """Whether a part that has a certain length is over."""
        return now_s - self.phase_begun_s >= self._length_s(self.phase)

    def is_failing(self, now_s: float) -> bool:
        """Whether the model that comes turns out to be one that cannot be read."""
        is_late = now_s - self.phase_begun_s >= FAILS_AT * self.to_model.load_s
        return self.phase is SwapPhase.LOADING and bool(self.to_model.fault) and is_late

    def row(self, now_s: float, num_waiting: int) -> SwapRow:
        """How far it is.

        Args:
            now_s: Now.
            num_waiting: Requests that wait for it.
        """
        start, end = _SHARES[self.phase]
        length_s = self._length_s(self.phase)
        share = min(1.0, (now_s - self.phase_begun_s) / length_s) if length_s else 0.0
        return SwapRow(
            from_model=self.from_model.model_id,
            to_model=self.to_model.model_id,
            phase=self.phase,
            progress=start + (end - start) * share,
            elapsed_s=now_s - self.begun_s,
            eta_s=self._eta_s(now_s),
            num_waiting=num_waiting,
        )

    def report(self, now_s: float) -> SwapReport:
        """What it took, once it is over."""
        return report_of(self.from_model, self.to_model, self.took, now_s - self.begun_s)

    def _length_s(self, phase: SwapPhase) -> float:
        match phase:
            case SwapPhase.DRAINING:
                return self.command.drain_s
            case SwapPhase.UNLOADING:
                return UNLOAD_S
            case SwapPhase.LOADING:
                return self.to_model.load_s
            case SwapPhase.CHECKING:
                return self.to_model.check_s
            case SwapPhase.REBUILDING:
                return REBUILD_S
            case SwapPhase.RESTORING:
                return self.from_model.load_s
        return 0.0

    def _eta_s(self, now_s: float) -> float | None:
        """Seconds until it is over; None while it depends on others."""
        left_s = max(0.0, self._length_s(self.phase) - (now_s - self.phase_begun_s))
        if self.phase is SwapPhase.RESTORING:
            return left_s
        if self.phase not in _TIMED:
            return None
        to_come = _TIMED[_TIMED.index(self.phase) + 1 :]
        return left_s + sum(self._length_s(phase) for phase in to_come)


def report_of(
    from_model: ShelfModel, to_model: ShelfModel, took: dict[SwapPhase, float], total_s: float
) -> SwapReport:
    """What a swap took.

    Args:
        from_model: The model that went.
        to_model: The model that came.
        took: Seconds of each part.
        total_s: All of it.
    """
    return SwapReport(
        from_model=from_model.model_id,
        to_model=to_model.model_id,
        parts=SwapParts(
            drain_s=took.get(SwapPhase.DRAINING, 0.0),
            save_s=took.get(SwapPhase.SAVING, 0.0),
            unload_s=took.get(SwapPhase.UNLOADING, 0.0),
            load_s=took.get(SwapPhase.LOADING, 0.0),
            check_s=took.get(SwapPhase.CHECKING, 0.0),
            rebuild_s=took.get(SwapPhase.REBUILDING, 0.0),
            total_s=total_s,
        ),
    )
