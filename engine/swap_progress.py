"""How far a change of model is, what its parts took, and when it should be done."""

from __future__ import annotations

from collections.abc import Callable

from engine.snapshot import SwapParts, SwapPhase, SwapRow

_UNTIL = {
    SwapPhase.PREPARING: 0.10,
    SwapPhase.DRAINING: 0.20,
    SwapPhase.SAVING: 0.30,
    SwapPhase.UNLOADING: 0.35,
    SwapPhase.LOADING: 0.80,
    SwapPhase.CHECKING: 0.95,
    SwapPhase.REBUILDING: 1.00,
    SwapPhase.RESTORING: 1.00,
}
"""Share of the whole that is done at the end of each phase."""
_STARTS = dict(zip(_UNTIL, (0.0, *_UNTIL.values()), strict=False)) | {SwapPhase.RESTORING: 0.35}
_FIELDS = {
    SwapPhase.PREPARING: "prepare_s",
    SwapPhase.DRAINING: "drain_s",
    SwapPhase.SAVING: "save_s",
    SwapPhase.UNLOADING: "unload_s",
    SwapPhase.LOADING: "load_s",
    SwapPhase.CHECKING: "check_s",
    SwapPhase.REBUILDING: "rebuild_s",
}
DEFAULT_RETRY_S = 5.0
MAX_RETRY_S = 60.0


class SwapProgress:
    """The clock of one swap. Belongs to the engine's thread."""

    def __init__(
        self,
        from_model: str,
        to_model: str,
        clock: Callable[[], float],
        load_s: float | None = None,
    ) -> None:
        """Begins with preparing.

        Args:
            from_model: The model that goes.
            to_model: The model that comes.
            clock: Monotonic seconds.
            load_s: Seconds that its last load took; None where it was never loaded.
        """
        self.from_model = from_model
        self.to_model = to_model
        self.phase = SwapPhase.PREPARING
        self._clock = clock
        self._began_s = self._phase_began_s = clock()
        self._load_s = load_s
        self._share = 0.0
        self._seconds = dict.fromkeys(_FIELDS, 0.0)

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began_s

    def enter(self, phase: SwapPhase) -> None:
        """Ends the phase under way and begins another."""
        now_s = self._clock()
        if self.phase in self._seconds:
            self._seconds[self.phase] += now_s - self._phase_began_s
        self.phase, self._phase_began_s, self._share = phase, now_s, 0.0

    def advance(self, share: float) -> None:
        """Takes note of the share of the phase that is done, 0-1."""
        self._share = min(1.0, max(0.0, share))

    def expect(self, load_s: float | None) -> None:
        """Takes note of what the load took last time."""
        self._load_s = load_s

    @property
    def eta_s(self) -> float | None:
        """Seconds until it is done; None where nothing tells."""
        done = self.progress
        if self.phase in (SwapPhase.PREPARING, SwapPhase.DRAINING, SwapPhase.SAVING):
            return self._load_s
        if self._load_s is not None:
            return max(0.1, self._load_s * (1.0 - done) / (1.0 - _STARTS[SwapPhase.UNLOADING]))
        return self.elapsed_s * (1.0 - done) / done if done > 0.4 else None

    @property
    def retry_after_s(self) -> float:
        """When whoever is turned away should try again."""
        eta_s = self.eta_s
        return DEFAULT_RETRY_S if eta_s is None else min(MAX_RETRY_S, max(1.0, eta_s))

    @property
    def progress(self) -> float:
        """Share of the whole that is done, 0-1."""
        start = _STARTS[self.phase]
        return start + (_UNTIL[self.phase] - start) * self._share

    def parts(self) -> SwapParts:
        """What it took so far."""
        seconds = {_FIELDS[phase]: value for phase, value in self._seconds.items()}
        return SwapParts(**seconds, total_s=self.elapsed_s)

    def row(self, num_waiting: int = 0) -> SwapRow:
        """It as it is shown.

        Args:
            num_waiting: Turns that have not ended yet.
        """
        return SwapRow(
            from_model=self.from_model,
            to_model=self.to_model,
            phase=self.phase,
            progress=self.progress,
            elapsed_s=self.elapsed_s,
            eta_s=self.eta_s,
            num_waiting=num_waiting,
        )
