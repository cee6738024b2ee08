"""Follows replies through grammars that llguidance compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import ConstraintFailedError

if TYPE_CHECKING:
    from llguidance import LLMatcher


class GuidanceMatcher:
    """A ``TokenMatcher`` (engine/constraint.py). It belongs to one thread at a time.

    Args:
        matcher: Stands where the reply does.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.check()

    @property
    def is_over(self) -> bool:
        """Whether the grammar is complete, and nothing may follow but the end of the turn."""
        return self._matcher.is_stopped()

    def allows(self, token_id: int) -> bool:
        """Whether a token may come next; end tokens may where the grammar is complete."""
        is_allowed = self._matcher.validate_tokens([token_id]) == 1
        self.check()
        return is_allowed

    def allowed(self) -> bytes:
        """One bit for every token, the lowest of a byte first: whether it may come next."""
        bits = self._matcher.compute_bitmask()
        self.check()
        return bits

    def advance(self, token_id: int) -> None:
        """Takes the token that was chosen."""
        self._matcher.consume_token(token_id)
        self.check()

    def copy(self) -> GuidanceMatcher:
        """A matcher that stands where this one does, and goes on by itself."""
        return GuidanceMatcher(self._matcher.deep_copy())

    def check(self) -> None:
        """Makes an error of the state that llguidance keeps instead of raising."""
        if self._matcher.is_error():
            # What follows the first line is the state of the parser.
            reason = self._matcher.get_error().partition("\n")[0]
            raise ConstraintFailedError(f"the grammar of the reply cannot be followed: {reason}")
