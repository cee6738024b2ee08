"""What the scripted engine answers to commands about models, and how a change of model looks."""

from __future__ import annotations

from dataclasses import replace

from engine.errors import StokerError
from engine.messages import ChatFormat
from engine.model_commands import ListModels, SwapModel
from engine.snapshot import (
    AgentImpact,
    EngineSnapshot,
    EngineStatus,
    ModelChoice,
    ModelRow,
    SwapParts,
    SwapReport,
    SwapRow,
)
from tests.api.byte_chat_format import MAX_CONTEXT_TOKENS, ByteChatFormat
from tests.api.word_snapshot import MODEL_ID

OTHER_ID = "other-words"
CHOICES = (
    ModelChoice(model_id=MODEL_ID, is_active=True),
    ModelChoice(
        model_id=OTHER_ID,
        num_bits=4,
        agents=(AgentImpact(agent_id="repo-a", num_tokens=10, num_warm_tokens=4, prefill_s=0.5),),
    ),
)
SWAPPED = SwapReport(
    from_model=MODEL_ID, to_model=OTHER_ID, parts=SwapParts(load_s=1.25, total_s=2.0)
)


class WordModels:
    """Serves one model, and another when a test says so."""

    snapshot: EngineSnapshot

    def reset_models(self) -> None:
        """The first model serves, and changes are answered at once."""
        self.chat_format: ChatFormat | None = ByteChatFormat()
        self.refuse_swap: StokerError | None = None
        self.answers_swaps = True

    def _about_models(self, command: ListModels | SwapModel) -> None:
        if isinstance(command, ListModels):
            command.done.set_result(CHOICES)
        elif self.refuse_swap is not None:
            command.done.set_exception(self.refuse_swap)
        elif self.answers_swaps:
            command.done.set_result(replace(SWAPPED, to_model=command.model))

    def begin_swap(self, eta_s: float | None = None) -> None:
        """Shows a change of model under way."""
        row = SwapRow(from_model=MODEL_ID, to_model=OTHER_ID, progress=0.5, eta_s=eta_s)
        self.snapshot = replace(self.snapshot, status=EngineStatus.SWAPPING, swap=row)

    def end_swap(self) -> None:
        """Shows the other model, with a chat format of its own."""
        self.chat_format = ByteChatFormat()
        detail = ModelRow(model_id=OTHER_ID, max_context_tokens=MAX_CONTEXT_TOKENS)
        self.snapshot = replace(
            self.snapshot,
            status=EngineStatus.SERVING,
            swap=None,
            model=OTHER_ID,
            model_detail=detail,
        )
