"""Changes the model: prepares the new one, drains, saves, unloads, loads, and takes up again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from engine.answer import answer_later
from engine.cache.quantisation import check_bits
from engine.errors import (
    DrainingError,
    EngineFailedError,
    ModelChangeError,
    ModelLoadError,
    StokerError,
    SwapInProgressError,
)
from engine.model_commands import SwapModel
from engine.model_host import ModelHost
from engine.publication import Publication
from engine.settings import ModelShelf
from engine.snapshot import EngineStatus, SwapPhase, SwapReport
from engine.swap_progress import SwapProgress
from engine.telemetry import Telemetry

if TYPE_CHECKING:
    from engine.loading import FoundModel

log = logging.getLogger("stoker.engine")

FLUSH_S = 20.0
"""How long a change waits for the disk."""
_ENDING = (SwapPhase.PREPARING, SwapPhase.DRAINING)
"""Phases in which it can still be called off."""


class Swap:
    """One change of model under way.

    Attributes:
        command: Who wants it.
        progress: Its clock.
        found: The new model, once it is found.
        drain_until_s: When turns that still run are ended, monotonic seconds.
    """

    def __init__(self, command: SwapModel, progress: SwapProgress) -> None:
        """Begins with preparing."""
        self.command = command
        self.progress = progress
        self.found: Future[FoundModel] = Future()
        self.drain_until_s = float("inf")


class Swapper:
    """Carries ``SwapModel`` out, one at a time. Belongs to the engine's thread."""

    def __init__(
        self,
        host: ModelHost,
        publication: Publication,
        telemetry: Telemetry,
        shelf: ModelShelf | None,
        settle: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Has nothing to do yet.

        Args:
            host: Has the model.
            publication: Shows how far it is.
            telemetry: Takes events.
            shelf: The models to change between; None where the first one stays.
            settle: Does what other threads have asked for.
            clock: Monotonic seconds.
        """
        self._host = host
        self._publication = publication
        self._telemetry = telemetry
        self._shelf = shelf
        self._settle = settle
        self._clock = clock
        self._swap: Swap | None = None

    @property
    def is_draining(self) -> bool:
        """Whether no new turn may begin, because the model is about to go."""
        return self._swap is not None and self._swap.progress.phase is not SwapPhase.PREPARING

    def refuse_turn(self) -> None:
        """Turns a request away while the model is about to go.

        Raises:
            SwapInProgressError: It is.
        """
        if self._swap is not None and self.is_draining:
            raise self._in_progress(self._swap)

    def begin(self, command: SwapModel) -> None:
        """Begins a change of model; the command's future is answered when it is done."""
        answer_later(command.done, lambda: self._begin(command))

    def _begin(self, command: SwapModel) -> None:
        if self._swap is not None:
            raise self._in_progress(self._swap)
        if self._shelf is None:
            raise ModelChangeError("this engine keeps the model that it was started with")
        check_bits(command.kv_bits)
        model_id = self._shelf.check(command.model)
        active = self._host.loaded
        assert active is not None
        known = self._host.history.get(self._shelf.fingerprint(command.model))
        progress = SwapProgress(
            active.model_row.model_id, model_id, self._clock, known.load_s if known else None
        )
        self._swap = Swap(command, progress)
        self._telemetry.note("swap", f"to {model_id}: preparing")
        self._show()
        threading.Thread(
            target=self._find, args=(self._swap, self._shelf), name="stoker-find", daemon=True
        ).start()

    @staticmethod
    def _find(swap: Swap, shelf: ModelShelf) -> None:
        """Runs on a thread of its own: reading and hashing a model may take a while."""
        from engine.loading import find, in_format

        def progress(share: float, _text: str) -> None:
            swap.progress.advance(share)

        try:
            found = find(lambda tell: shelf.find(swap.command.model, tell), progress)
            swap.found.set_result(in_format(found, swap.command.kv_bits))
        except StokerError as error:
            swap.found.set_exception(error)
        except Exception as error:
            # A folder from somewhere may break any reader; the reason goes to whoever asked.
            swap.found.set_exception(
                ModelLoadError(f"cannot read the model: {type(error).__name__}: {error}")
            )

    def advance(self) -> None:
        """Does what can be done now; between two steps of the engine."""
        swap = self._swap
        if swap is None:
            return
        if swap.progress.phase is SwapPhase.PREPARING:
            self._prepare(swap)
        if swap.progress.phase is SwapPhase.DRAINING:
            self._drain(swap)
        if self._swap is not None:
            self._show()

    def _prepare(self, swap: Swap) -> None:
        if not swap.found.done():
            return
        error = swap.found.exception()
        if error is not None:
            assert isinstance(error, StokerError)
            self._end(swap, error)
            return
        found, active = swap.found.result(), self._host.loaded
        assert active is not None
        if self._is_same(found, active.found):
            self._end(swap)
            return
        swap.drain_until_s = self._clock() + swap.command.drain_s
        swap.progress.enter(SwapPhase.DRAINING)
        self._publication.set_status(EngineStatus.SWAPPING, f"changing to {swap.progress.to_model}")

    def _is_same(self, found: FoundModel, active: FoundModel) -> bool:
        """Whether two models would serve from the same caches."""
        formats = [self._host.quantisation(each.source.defaults) for each in (found, active)]
        return found.source.fingerprint == active.source.fingerprint and formats[0] == formats[1]

    def _drain(self, swap: Swap) -> None:
        if self._host.core.scheduler.has_work and self._clock() < swap.drain_until_s:
            return
        # Turns that are held back by hand wait for a person, so they are not waited for.
        self._host.core.end_all(self._in_progress(swap))
        # No name may hold the core from here on, or its memory would not be given back.
        self._change(swap, swap.found.result())

    def _change(self, swap: Swap, found: FoundModel) -> None:
        """From here on nothing is served until a model is there again."""
        progress = swap.progress
        self._enter(swap, SwapPhase.SAVING)
        num_lost = self._host.save(FLUSH_S)
        self._settle()
        if num_lost:
            self._telemetry.note(
                "swap", f"{num_lost} tokens of caches were not on disk and are lost", "warning"
            )
        self._enter(swap, SwapPhase.UNLOADING)
        self._publication.loaded = None
        previous = self._host.unload()
        self._enter(swap, SwapPhase.LOADING)
        try:
            error = self._load(swap, found)
            if error is not None:
                self._restore(swap, previous, error)
                return
        finally:
            self._host.release_folder()
        self._publication.loaded = self._host.loaded
        progress.enter(SwapPhase.REBUILDING)
        self._end(swap)

    def _load(self, swap: Swap, found: FoundModel) -> StokerError | None:
        """Loads a model.

        Returns:
            What went wrong.
        """
        try:
            self._host.load(found, lambda *told: self._loading(swap, *told), self._clock())
        except StokerError as error:
            return error
        except Exception as error:
            # Whatever a model that comes does wrong, the one that was must come back.
            log.exception("a model could not be loaded")
            return ModelLoadError(f"{type(error).__name__}: {error}")
        return None

    def _loading(self, swap: Swap, share: float, text: str) -> None:
        from engine.runtime.loader import SELF_TEST

        if text == SELF_TEST:
            swap.progress.enter(SwapPhase.CHECKING)
        elif share >= 1.0 and swap.progress.phase is SwapPhase.CHECKING:
            swap.progress.enter(SwapPhase.REBUILDING)
        else:
            swap.progress.advance(share)
        self._show()

    def _restore(self, swap: Swap, previous: FoundModel, cause: StokerError) -> None:
        """Takes the previous model back.

        Raises:
            EngineFailedError: It cannot be loaded any more either.
        """
        name = previous.source.model_id
        self._telemetry.note(
            "swap", f"{swap.progress.to_model} failed: {cause}; going back to {name}", "error"
        )
        self._enter(swap, SwapPhase.RESTORING)
        again = self._load(swap, previous)
        if again is not None:
            other = swap.progress.to_model
            reason = f"neither {other} ({cause}) nor {name} ({again}) can be loaded"
            self._answer(swap, EngineFailedError(reason))
            raise EngineFailedError(reason)
        self._publication.loaded = self._host.loaded
        self._end(swap, ModelLoadError(f"{cause}; {name} is active again"))

    def _enter(self, swap: Swap, phase: SwapPhase) -> None:
        swap.progress.enter(phase)
        self._show()

    def _show(self) -> None:
        swap = self._swap
        num_waiting = 0
        if swap is not None and self._host.loaded is not None:
            num_waiting = sum(1 for _ in self._host.loaded.core.scheduler)
        self._publication.swap = swap.progress.row(num_waiting) if swap else None
        self._publication.num_steps += 1
        self._publication.publish(at_once=True)

    def cancel(self) -> None:
        """Calls a change off that has not taken the model away yet, for the engine is to end."""
        if self._swap is not None and self._swap.progress.phase in _ENDING:
            self._end(self._swap, DrainingError("Stoker is shutting down"))

    def fail(self, reason: str) -> None:
        """The engine ends; whoever waits for a change hears why."""
        if self._swap is not None:
            self._answer(self._swap, EngineFailedError(reason))

    def _end(self, swap: Swap, error: StokerError | None = None) -> None:
        progress = swap.progress
        progress.enter(progress.phase)
        parts = progress.parts()
        self._swap = None
        self._publication.swap = None
        if error is None:
            self._telemetry.note(
                "swap",
                f"{progress.to_model} is active after {parts.total_s:.1f} s: drain "
                f"{parts.drain_s:.1f}, save {parts.save_s:.1f}, unload {parts.unload_s:.1f}, "
                f"load {parts.load_s:.1f}, self-test {parts.check_s:.1f}, "
                f"rebuild {parts.rebuild_s:.1f}",
            )
        else:
            self._telemetry.note("swap", f"not to {progress.to_model}: {error}", "error")
        report = SwapReport(from_model=progress.from_model, to_model=progress.to_model, parts=parts)
        if self._publication.status is EngineStatus.SWAPPING:
            if error is None:
                self._publication.last_swap = report
                self._telemetry.swapped(parts.total_s)
            self._publication.set_status(EngineStatus.SERVING, "serving")
        else:
            self._show()
        self._answer(swap, error or report)

    @staticmethod
    def _answer(swap: Swap, outcome: SwapReport | StokerError) -> None:
        future = swap.command.done
        if future.done():
            return
        if isinstance(outcome, SwapReport):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def _in_progress(self, swap: Swap) -> SwapInProgressError:
        return SwapInProgressError(swap.progress.to_model, swap.progress.retry_after_s)
