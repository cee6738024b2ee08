"""The miss explainer: why a turn computed tokens that its agent had computed before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.cache.earlier_context import WINDOW_TOKENS, EarlierContext
from engine.request import PromptPart
from engine.snapshot import MissCause, MissRow

Spell = Callable[[Sequence[int]], str]
"""The text of a few tokens, special ones included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """What may stand in the way of a cache that is known.

    Attributes:
        reuses: Whether the model's caches may be reused at all.
        is_trusted: Whether this turn may use them.
        needs_checkpoints: Whether they can be resumed at checkpoints only.
        has_memory: Whether there was memory to restore them.
        is_on_disk: Whether the block that was wanted next is on disk.
    """

    reuses: bool = True
    is_trusted: bool = True
    needs_checkpoints: bool = False
    has_memory: bool = True
    is_on_disk: bool = False


def explain_miss(
    earlier: EarlierContext,
    token_ids: Sequence[int],
    *,
    num_hot_tokens: int,
    num_warm_tokens: int,
    state: CacheState,
    parts: Sequence[PromptPart] = (),
    spell: Spell | None = None,
) -> MissRow:
    """Where a prompt's tokens came from, and why known ones are computed again.

    Args:
        earlier: What is known of the agent's context of before.
        token_ids: The prompt.
        num_hot_tokens: Tokens at its beginning that were in memory.
        num_warm_tokens: Tokens after these that were read from disk.
        state: What may have stood in the way.
        parts: The prompt's parts, in order.
        spell: Tells a different tokenisation from a different text; None does not tell.
    """
    num_tokens, num_found = len(token_ids), num_hot_tokens + num_warm_tokens
    num_lost = max(0, earlier.num_comparable(num_tokens) - num_found)
    row = MissRow(
        num_hot_tokens=num_hot_tokens,
        num_warm_tokens=num_warm_tokens,
        num_lost_tokens=num_lost,
        num_new_tokens=num_tokens - num_found - num_lost,
    )
    if earlier.foreign_cause is not MissCause.NONE:
        return replace(row, cause=earlier.foreign_cause)
    if not num_lost:
        is_first = earlier.is_first and not earlier.num_tokens
        return replace(row, cause=MissCause.FIRST_TURN if is_first else MissCause.NONE)
    changed = earlier.changed_token
    if changed is None or not _is_changes_fault(changed, row, earlier, state):
        return replace(row, cause=_cause_of_absence(row, earlier, state))
    is_same_text = spell is not None and _spells_the_same(
        spell, earlier.following, token_ids[changed : changed + WINDOW_TOKENS]
    )
    return replace(
        row,
        cause=MissCause.TOKENISED_DIFFERENTLY if is_same_text else MissCause.CHANGED_TEXT,
        changed_token=changed,
        part=part_at(parts, changed),
    )


def _is_changes_fault(
    changed_token: int, row: MissRow, earlier: EarlierContext, state: CacheState
) -> bool:
    """Whether a change, and not an absence, cost the greater part of what was lost."""
    num_after = earlier.num_comparable(row.num_prompt_tokens) - changed_token
    if not state.reuses or not state.is_trusted or num_after <= 0:
        return False
    # Where checkpoints are needed, it is the change that sends a turn back to one.
    at_hand = earlier.is_in_memory or state.is_on_disk
    return (state.needs_checkpoints and at_hand) or 2 * num_after >= row.num_lost_tokens


def _cause_of_absence(row: MissRow, earlier: EarlierContext, state: CacheState) -> MissCause:
    if not state.reuses:
        return MissCause.NOT_REUSABLE
    if not state.is_trusted:
        return MissCause.DISTRUSTED
    if not state.has_memory:
        return MissCause.NO_ROOM
    if earlier.is_in_memory:
        return MissCause.NO_CHECKPOINT
    if earlier.is_evicted and row.num_cached_tokens >= earlier.num_saved_tokens:
        return MissCause.EVICTED
    if state.is_on_disk:
        return MissCause.NO_CHECKPOINT if state.needs_checkpoints else MissCause.NO_ROOM
    return MissCause.NOT_ON_DISK


def _spells_the_same(spell: Spell, left: Sequence[int], right: Sequence[int]) -> bool:
    """Whether two runs of tokens that differ at once come to the same text soon.

    The shorter text is lengthened until both are equal, or one run ends inside the other's text.
    """
    a = b = ""
    num_left = num_right = 1
    while num_left <= len(left) and num_right <= len(right):
        # A character that is cut in half shows as this mark until its rest is there.
        a, b = (spell(run).rstrip("\ufffd") for run in (left[:num_left], right[:num_right]))
        if a and a == b:
            return True
        if not (a.startswith(b) or b.startswith(a)):
            return False
        if len(a) < len(b):
            num_left += 1
        else:
            num_right += 1
    return bool(a and b)


def part_at(parts: Sequence[PromptPart], token: int) -> str:
    """The label of the part in which a token lies; empty where the parts are not known."""
    return next((part.label for part in reversed(parts) if part.start_token <= token), "")


def found_later(
    row: MissRow, start_token: int, num_tokens: int, earlier: EarlierContext
) -> MissRow:
    """The row once more of the prompt was found in memory while the turn was under way.

    Args:
        row: The row so far.
        start_token: Where the find begins; no token after it was computed or found before.
        num_tokens: Its length.
        earlier: The context that the row is about.
    """
    num_comparable = earlier.num_comparable(row.num_prompt_tokens)
    num_regained = min(num_tokens, max(0, num_comparable - start_token))
    num_lost = row.num_lost_tokens - num_regained
    row = replace(
        row,
        num_hot_tokens=row.num_hot_tokens + num_tokens,
        num_lost_tokens=num_lost,
        num_new_tokens=row.num_new_tokens - (num_tokens - num_regained),
    )
    if num_lost or not num_regained:
        return row
    return replace(row, cause=MissCause.NONE, changed_token=None, part="", lost_s=None)
