"""What changes of model do to a scene that stands still: all of it at once."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable

from engine.errors import ModelLoadError, ModelLoadingError, SwapInProgressError
from engine.model_commands import SwapModel
from engine.scripted_cast import ACTIVE, BLOCK_BYTES, BLOCK_TOKENS
from engine.scripted_models import (
    SHELF,
    AgentKey,
    ShelfModel,
    choices,
    on_shelf,
    stored_at_first,
    under_model,
)
from engine.scripted_stage import pool
from engine.scripted_swap import REBUILD_S, UNLOAD_S, report_of
from engine.snapshot import (
    AgentRow,
    AgentStatus,
    EngineSnapshot,
    ModelChoice,
    SwapPhase,
    SwapReport,
)

DRAIN_S = 1.2
SAVE_S = 0.4


class StillModels(ABC):
    """One snapshot whose model can be changed.

    Args:
        shown: The state to start from.
    """

    def __init__(self, shown: EngineSnapshot) -> None:
        self._shown = shown
        self._stored = stored_at_first()
        self._model = SHELF[0]
        self._answers: list[Callable[[], None]] = []

    @abstractmethod
    def note(self, kind: str, text: str, level: str) -> None:
        """Adds an event."""

    def models(self, kv_bits: int | None = None) -> tuple[ModelChoice, ...]:
        """The models there are, and what each would mean for the agents."""
        contexts = [(row.key, row.num_context_tokens) for row in self._shown.agents]
        return choices(self._model, contexts, self._stored, kv_bits)

    def swap(self, command: SwapModel) -> None:
        """Changes the model, with everything that a real swap takes time for."""
        shown = self._shown
        if shown.swap is not None:
            raise SwapInProgressError(shown.swap.to_model, shown.swap.eta_s or 1.0)
        if shown.model_detail is None:
            raise ModelLoadingError("no model is loaded yet")
        before, after = self._model, on_shelf(command.model, command.kv_bits)
        if after.fault:
            words = f"{after.model_id} cannot be loaded, {before.model_id} serves again"
            self.note("swap", f"{words}: {after.fault}", "warning")
            raise ModelLoadError(f"{words}: {after.fault}")
        self._stored[before.space] = {row.key: _num_on_disk(row) for row in shown.agents}
        self._take_up(after)
        report = _report(before, after)
        self._shown = dataclasses.replace(self._shown, last_swap=report)
        self.note("swap", f"{after.model_id} serves after {report.parts.total_s:.1f} s", "info")
        self._answers.append(lambda: command.done.set_result(report))

    def take_answers(self) -> list[Callable[[], None]]:
        """What is to be called now that commands are done."""
        answers, self._answers = self._answers, []
        return answers

    def _take_up(self, model: ShelfModel) -> None:
        shown, stored = self._shown, self._stored.get(model.space, {})
        agents = tuple(_under_another(row, stored) for row in shown.agents)
        drawn = dataclasses.replace(
            shown,
            agents=agents,
            pool=pool((), shown.pool.num_total_blocks, shown.pool.num_evictions),
            batch=dataclasses.replace(shown.batch, num_running=0, num_decoding=0, prefilling=""),
            model=SHELF[0].model_id,
            model_detail=SHELF[0].row,
        )
        self._shown, self._model = under_model(drawn, model.row), model


def _num_on_disk(row: AgentRow) -> int:
    share = row.warm_bytes / row.hot_bytes if row.hot_bytes else 1.0
    return round(row.num_context_tokens * min(1.0, share)) if row.warm_bytes else 0


def _under_another(row: AgentRow, stored: dict[AgentKey, int]) -> AgentRow:
    """An agent when another model serves; its turn is over, or waits for that one."""
    num_blocks = -(-stored.get(row.key, 0) // BLOCK_TOKENS)
    at_rest = AgentStatus.WARM if num_blocks else AgentStatus.COLD
    return dataclasses.replace(
        row,
        status=AgentStatus.QUEUED if row.status in ACTIVE else at_rest,
        hot_bytes=0,
        warm_bytes=num_blocks * BLOCK_BYTES,
        shared_bytes=0,
        decode_tok_s=0.0,
        prefill_progress=1.0,
        eta_s=None,
    )


def _report(before: ShelfModel, after: ShelfModel) -> SwapReport:
    took = {
        SwapPhase.DRAINING: DRAIN_S,
        SwapPhase.SAVING: SAVE_S,
        SwapPhase.UNLOADING: UNLOAD_S,
        SwapPhase.LOADING: after.load_s,
        SwapPhase.CHECKING: after.check_s,
        SwapPhase.REBUILDING: REBUILD_S,
    }
    return report_of(before, after, took, sum(took.values()))
