"""Where the tokens of one prompt came from, and why known ones had to be computed again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MissCause(StrEnum):
    """Why tokens that were known before had to be computed again."""

    NONE = "none"
    """None had to be."""
    FIRST_TURN = "first turn"
    """Nothing was known of the agent."""
    CHANGED_TEXT = "changed text"
    """The prompt says something else than it did."""
    TOKENISED_DIFFERENTLY = "tokenised differently"
    """The prompt says the same in other tokens."""
    EVICTED = "evicted"
    """The cache was taken out of memory before all of it was on disk."""
    NOT_ON_DISK = "not on disk any more"
    """The cache was on disk; its files were removed for room or set aside."""
    NO_ROOM = "no room in memory"
    """The cache is on disk, and memory had no room to read it into."""
    NO_CHECKPOINT = "checkpoint missing"
    """The model can be resumed only at checkpoints, and the nearest one lies further back."""
    OTHER_MODEL = "other model"
    """The agent's cache was made by another model."""
    OTHER_KV_FORMAT = "other kv format"
    """The agent's cache was made by this model in another format."""
    DISTRUSTED = "cache not trusted"
    """The cache gave numbers that are not finite, so the turn is computed without it."""
    NOT_REUSABLE = "not reusable"
    """The self-test refused to reuse this model's caches."""


_CHANGES = (MissCause.CHANGED_TEXT, MissCause.TOKENISED_DIFFERENTLY)
_HARMLESS = (MissCause.NONE, MissCause.FIRST_TURN)


@dataclass(frozen=True, slots=True, kw_only=True)
class MissRow:
    """How one prompt was met by the cache. The four counts add up to the prompt.

    Attributes:
        num_hot_tokens: Tokens that were in memory.
        num_warm_tokens: Tokens that were read from disk.
        num_lost_tokens: Tokens at places that the agent's earlier context had filled, and that
            had to be computed all the same.
        num_new_tokens: The turn's own tokens.
        cause: Why tokens were lost.
        changed_token: Index of the first token that differs from the earlier context; None where
            none is known to. Where only block hashes are left of that context, no token before
            this one differs.
        part: The part of the prompt in which that token lies, e.g. ``system`` or
            ``message 3 (user)``; empty where the parts are not known.
        lost_s: Seconds that computing the lost tokens took, from the measured prefill rate; None
            before one was measured.
    """

    num_hot_tokens: int = 0
    num_warm_tokens: int = 0
    num_lost_tokens: int = 0
    num_new_tokens: int = 0
    cause: MissCause = MissCause.NONE
    changed_token: int | None = None
    part: str = ""
    lost_s: float | None = None

    @property
    def num_prompt_tokens(self) -> int:
        """Length of the prompt; 0 before the first turn."""
        return self.num_cached_tokens + self.num_lost_tokens + self.num_new_tokens

    @property
    def num_cached_tokens(self) -> int:
        """Tokens that came from the cache."""
        return self.num_hot_tokens + self.num_warm_tokens

    @property
    def is_miss(self) -> bool:
        """Whether there is a loss to explain."""
        return self.cause not in _HARMLESS

    @property
    def words(self) -> str:
        """One line for people: what happened, tokens and seconds."""
        if self.cause is MissCause.NONE:
            return "nothing was lost" if self.num_prompt_tokens else "no turn yet"
        if self.cause is MissCause.FIRST_TURN:
            return "first turn"
        return f"{self._event}: {self._price}" if self.num_lost_tokens else self._event

    @property
    def label(self) -> str:
        """What it was in a word or two: the changed part, or the cause; empty without a loss."""
        if not self.is_miss:
            return ""
        return self.part or "prompt" if self.cause in _CHANGES else self.cause.value

    @property
    def _event(self) -> str:
        where = f" at token {self.changed_token}" if self.changed_token is not None else ""
        match self.cause:
            case MissCause.CHANGED_TEXT:
                return f"{self.label} changed{where}"
            case MissCause.TOKENISED_DIFFERENTLY:
                return f"{self.label} tokenised differently{where}"
            case MissCause.NO_CHECKPOINT:
                return f"no checkpoint after token {self.num_cached_tokens}"
            case MissCause.OTHER_MODEL:
                return "its cache is another model's"
            case MissCause.OTHER_KV_FORMAT:
                return "its cache is in another KV format"
            case MissCause.NOT_REUSABLE:
                return "this model's caches cannot be reused"
        return self.cause.value

    @property
    def _price(self) -> str:
        tokens = f"{self.num_lost_tokens} tokens"
        return tokens if self.lost_s is None else f"{tokens}, {_seconds(self.lost_s)}"


def _seconds(value_s: float) -> str:
    if value_s >= 9.95:
        return f"{value_s:.0f} s"
    return f"{value_s:.1f} s" if value_s >= 0.095 else f"{value_s:.2f} s"
