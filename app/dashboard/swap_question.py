"""What is asked before the model is changed: what that costs, in tokens and in seconds. Pure."""

from __future__ import annotations

from app.dashboard.questions import BUSY, Question
from engine.model_commands import DEFAULT_DRAIN_S
from engine.snapshot import EngineSnapshot, ModelChoice
from widgets.format import clean, seconds
from widgets.model import LOSSLESS
from widgets.model_lines import again_words, lost_seconds, lost_tokens, warm_words, with_context


def swap_question(choice: ModelChoice, shown: EngineSnapshot) -> Question:
    """About a change of model.

    Args:
        choice: The model that is to come.
        shown: The state of the engine.
    """
    lines = [*_warnings(choice), _cost(choice), _way_back(shown), _meanwhile(choice, shown)]
    name, kv_format = clean(choice.model_id), clean(choice.kv_format)
    changes_format = kv_format not in ("", LOSSLESS)
    kept = f" with its KV cache in {kv_format}" if changes_format or choice.is_active else ""
    return Question(
        text=f"Load {name} anew{kept}?" if choice.is_active else f"Swap to {name}{kept}?",
        consequences=tuple(line for line in lines if line),
        verb="swap",
    )


def _warnings(choice: ModelChoice) -> list[str]:
    warnings = []
    if choice.fits is False:
        warnings.append("It is not expected to fit this device's memory.")
    if choice.verdict:
        warnings.append(f"Judged: {clean(choice.verdict)}.")
    return warnings


def _cost(choice: ModelChoice) -> str:
    agents = with_context(choice)
    num_lost = lost_tokens(agents)
    if not num_lost:
        return "No agent has anything to compute again."
    words = again_words(num_lost, lost_seconds(agents))
    return f"To compute again: {words}; {warm_words(agents)}."


def _way_back(shown: EngineSnapshot) -> str:
    if shown.disk.is_on:
        return f"Caches of {clean(shown.model)} stay on disk: swapping back finds them warm."
    num_tokens = sum(row.num_context_tokens for row in shown.agents if row.hot_bytes)
    if not num_tokens:
        return ""
    return f"There is no disk tier: {num_tokens:,} tokens of cache are lost for good."


def _meanwhile(choice: ModelChoice, shown: EngineSnapshot) -> str:
    num_turns = sum(row.status in BUSY for row in shown.agents)
    loads = f"It took {seconds(choice.load_s)} to load last time; r" if choice.load_s else "R"
    words = f"{loads}equests wait meanwhile."
    if not num_turns:
        return words
    turns = "1 turn is" if num_turns == 1 else f"{num_turns} turns are"
    return f"{turns} under way and may take {DEFAULT_DRAIN_S:.0f}s to finish. {words}"
