"""Which tokens a payload is of, as far as its shapes depend on that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PayloadSpan:
    """The place of a block, a tail or a checkpoint in its context.

    Attributes:
        start: Tokens before it.
        num_tokens: Its own tokens.
        is_checkpoint: Whether it holds windows and states, to be resumed after its last token.
    """

    start: int
    num_tokens: int
    is_checkpoint: bool = False

    @property
    def stop(self) -> int:
        """One past its last token."""
        return self.start + self.num_tokens
