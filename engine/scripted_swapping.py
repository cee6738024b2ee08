"""How a scripted world changes its model: agents keep their names, caches wait on disk."""

from __future__ import annotations

import dataclasses
import random
from abc import abstractmethod
from collections.abc import Callable

from engine.errors import DrainingError, ModelLoadError, ModelLoadingError, SwapInProgressError
from engine.model_commands import SwapModel
from engine.scripted_agents import ScriptedAgents
from engine.scripted_cast import ACTIVE, BLOCK_TOKENS, RUNNING
from engine.scripted_models import (
    SHELF,
    UNLOADED_DEVICE,
    choices,
    on_shelf,
    stored_at_first,
    under_model,
)
from engine.scripted_swap import ScriptedSwap
from engine.snapshot import (
    AgentStatus,
    EngineSnapshot,
    EngineStatus,
    ModelChoice,
    PoolRow,
    SwapPhase,
    SwapReport,
)

SAVE_SPEED = 12.0
"""How much faster the disk is fed while nothing else goes on."""
_NEXT = {
    SwapPhase.LOADING: SwapPhase.CHECKING,
    SwapPhase.CHECKING: SwapPhase.REBUILDING,
}
_NO_MODEL = (SwapPhase.LOADING, SwapPhase.CHECKING, SwapPhase.REBUILDING, SwapPhase.RESTORING)
_BUSY = (*RUNNING, AgentStatus.RESTORING)


class ScriptedSwapping(ScriptedAgents):
    """A world of agents whose model can be changed.

    Args:
        source: Of random choices.
        num_blocks: Size of the pool.
        step_s: Seconds that a tick takes.
    """

    def __init__(self, source: random.Random, num_blocks: int, step_s: float) -> None:
        super().__init__(source, num_blocks)
        self._step_s = step_s
        self._model = SHELF[0]
        self._stored = stored_at_first()
        self._swap: ScriptedSwap | None = None
        self._last_swap: SwapReport | None = None
        self._answers: list[Callable[[], None]] = []

    @property
    @abstractmethod
    def _serves(self) -> bool:
        """Whether a model was loaded."""

    @abstractmethod
    def _work(self) -> None:
        """Takes running turns one tick further."""

    def models(self, kv_bits: int | None = None) -> tuple[ModelChoice, ...]:
        """The models there are, and what each would mean for the agents."""
        contexts = [(("", actor.role.agent_id), actor.num_context) for actor in self._actors]
        return choices(self._model, contexts, self._stored, kv_bits)

    def swap(self, command: SwapModel) -> None:
        """Begins a change of model."""
        if not self._serves:
            raise ModelLoadingError("no model is loaded yet")
        if self._swap is not None:
            coming = self._swap.to_model.model_id
            raise SwapInProgressError(coming, self._swap.row(self._now_s, 0).eta_s or 1.0)
        to_model = on_shelf(command.model, command.kv_bits)
        self._swap = ScriptedSwap(
            command=command, from_model=self._model, to_model=to_model, begun_s=self._now_s
        )
        self.note("swap", f"to {to_model.model_id}: running turns may finish", "info")

    def take_answers(self) -> list[Callable[[], None]]:
        """What is to be called now that commands are done."""
        answers, self._answers = self._answers, []
        return answers

    def _tick_swap(self, swap: ScriptedSwap) -> None:
        self._queue_due()
        if swap.phase is SwapPhase.DRAINING:
            self._drain(swap)
        elif swap.phase is SwapPhase.SAVING:
            self._save(swap)
        elif swap.is_failing(self._now_s):
            name, back = swap.to_model.model_id, swap.from_model.model_id
            self.note("swap", f"{name} cannot be loaded; {back} comes back", "warning")
            swap.enter(SwapPhase.RESTORING, self._now_s)
        elif swap.is_phase_over(self._now_s):
            self._go_on(swap)

    def _queue_due(self) -> None:
        """Whoever has something to say waits for the model."""
        for actor in self._actors:
            if actor.status is AgentStatus.RESTORING and self._now_s >= actor.restored_at_s:
                actor.status = AgentStatus.IDLE
            if actor.status not in ACTIVE and actor.next_turn_s <= self._now_s:
                actor.status = AgentStatus.QUEUED
                actor.queued_at_s = self._now_s
                actor.num_generated = 0

    def _drain(self, swap: ScriptedSwap) -> None:
        self._work()
        busy = [actor for actor in self._actors if actor.status in _BUSY]
        if busy and not swap.is_past_deadline(self._now_s):
            return
        for actor in busy:
            actor.status, actor.held = AgentStatus.QUEUED, None
            actor.queued_at_s = self._now_s
        self._work()
        swap.enter(SwapPhase.SAVING, self._now_s)

    def _save(self, swap: ScriptedSwap) -> None:
        self._memory.disk.write_behind(self._actors, SAVE_SPEED * self._step_s)
        if not self._memory.disk.pending:
            swap.enter(SwapPhase.UNLOADING, self._now_s)

    def _go_on(self, swap: ScriptedSwap) -> None:
        if swap.phase is SwapPhase.UNLOADING:
            self._unload(swap)
        elif swap.phase in _NEXT:
            swap.enter(_NEXT[swap.phase], self._now_s)
        else:
            self._finish(swap)

    def _unload(self, swap: ScriptedSwap) -> None:
        self._stored[self._model.space] = {
            ("", actor.role.agent_id): min(
                actor.num_context, self._memory.num_on_disk(actor) * BLOCK_TOKENS
            )
            for actor in self._actors
        }
        for actor in self._actors:
            actor.num_stored_blocks = self._memory.num_on_disk(actor)
            actor.table = []
            if actor.status is not AgentStatus.QUEUED:
                actor.status = AgentStatus.WARM if actor.num_stored_blocks else AgentStatus.COLD
        self._memory.clear()
        swap.enter(SwapPhase.LOADING, self._now_s)

    def _finish(self, swap: ScriptedSwap) -> None:
        is_back = swap.phase is SwapPhase.RESTORING
        swap.enter(swap.phase, self._now_s)
        self._swap = None
        self._model = swap.from_model if is_back else swap.to_model
        stored = self._stored.get(self._model.space, {})
        for actor in self._actors:
            num_tokens = stored.get(("", actor.role.agent_id), 0)
            actor.num_stored_blocks = -(-num_tokens // BLOCK_TOKENS)
            actor.is_foreign = not is_back
            if actor.status is AgentStatus.QUEUED:
                actor.next_turn_s = self._now_s
            actor.status = AgentStatus.WARM if actor.num_stored_blocks else AgentStatus.COLD
        if is_back:
            self._answer_failure(swap)
        else:
            self._answer(swap)

    def _answer(self, swap: ScriptedSwap) -> None:
        report = self._last_swap = swap.report(self._now_s)
        self.note("swap", f"{report.to_model} serves after {report.parts.total_s:.1f} s", "info")
        self._answers.append(lambda: swap.command.done.set_result(report))

    def _answer_failure(self, swap: ScriptedSwap) -> None:
        name, back = swap.to_model.model_id, swap.from_model.model_id
        words = f"{name} cannot be loaded, {back} serves again: {swap.to_model.fault}"
        error = ModelLoadError(words)
        self.note("swap", words, "warning")
        self._answers.append(lambda: swap.command.done.set_exception(error))

    def _abandon_swap(self) -> None:
        """Ends a change of model with the engine."""
        swap, self._swap = self._swap, None
        if swap is not None:
            error = DrainingError("the engine is shutting down")
            self._answers.append(lambda: swap.command.done.set_exception(error))

    def _as_served(self, drawn: EngineSnapshot) -> EngineSnapshot:
        """A drawn state under the model that serves, or in the swap under way."""
        shown = under_model(drawn, self._model.row)
        swap = self._swap
        if swap is None:
            return dataclasses.replace(shown, last_swap=self._last_swap)
        batch = shown.batch
        is_early = swap.phase is SwapPhase.DRAINING
        row = swap.row(self._now_s, batch.num_running if is_early else batch.num_waiting)
        shown = dataclasses.replace(
            shown,
            status=EngineStatus.SWAPPING,
            status_text=f"{row.phase}: {row.to_model}",
            progress=row.progress,
            swap=row,
            last_swap=self._last_swap,
        )
        if swap.phase not in _NO_MODEL:
            return shown
        return dataclasses.replace(
            shown, model_detail=None, pool=PoolRow(), device_detail=UNLOADED_DEVICE
        )
