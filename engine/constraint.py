"""What a reply is allowed to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from engine.errors import EngineFailedError


class TokenMatcher(Protocol):
    """Follows one reply through a grammar, token by token.

    Every method may raise ConstraintFailedError; then the matcher is of no more use.
    """

    @property
    def is_over(self) -> bool:
        """Whether the grammar is complete, and nothing may follow but the end of the turn."""

    def allows(self, token_id: int) -> bool:
        """Whether a token may come next; end tokens may where the grammar is complete."""

    def allowed(self) -> bytes:
        """One bit for every token, the lowest of a byte first: whether it may come next."""

    def advance(self, token_id: int) -> None:
        """Takes the token that was chosen."""

    def copy(self) -> TokenMatcher:
        """A matcher that stands where this one does, and goes on by itself."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A grammar that every prefix of a reply has to fit.

    Attributes:
        grammar: The grammar as text, in the language of llguidance.
        gaps: What of the client's schemas the grammar does not enforce, in words.
        matcher: The compiled grammar, at the beginning of a reply. It is only ever copied.
    """

    grammar: str
    gaps: tuple[str, ...] = ()
    matcher: TokenMatcher | None = field(default=None, compare=False, repr=False)

    def begin(self) -> TokenMatcher:
        """A matcher for one reply.

        Raises:
            EngineFailedError: The grammar was never compiled.
        """
        if self.matcher is None:
            raise EngineFailedError("a reply was to be constrained by a grammar without a matcher")
        return self.matcher.copy()
