"""What an agent's last turn was like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from engine.snapshot import MissCause, MissRow

_MISS_PREFIX = "miss_"
Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTurn:
    """What an agent's last turn was like.

    Attributes:
        num_generated_tokens: What it generated.
        ttft_s: Time to first token; None if it never came.
        miss: Where its prompt's tokens came from, and why known ones were lost.
    """

    num_generated_tokens: int = 0
    ttft_s: float | None = None
    miss: MissRow = field(default_factory=MissRow)

    @property
    def num_prompt_tokens(self) -> int:
        """Its prompt."""
        return self.miss.num_prompt_tokens

    @property
    def num_cached_tokens(self) -> int:
        """The part of the prompt that came from the cache."""
        return self.miss.num_cached_tokens

    @property
    def num_restored_tokens(self) -> int:
        """The part of that which was read from disk."""
        return self.miss.num_warm_tokens


def to_scalars(turn: LastTurn) -> dict[str, Scalar]:
    """A turn as one flat mapping, fit for the index on disk."""
    miss = {f"{_MISS_PREFIX}{name}": value for name, value in asdict(turn.miss).items()}
    return {"num_generated_tokens": turn.num_generated_tokens, "ttft_s": turn.ttft_s, **miss}


def from_scalars(record: Mapping[str, Scalar]) -> LastTurn:
    """The inverse of ``to_scalars``; what this version cannot read counts as no turn."""
    known: dict[str, Any] = {
        each.name: record[key]
        for each in fields(MissRow)
        if (key := f"{_MISS_PREFIX}{each.name}") in record
    }
    try:
        known["cause"] = MissCause(known.get("cause", MissCause.NONE))
    except ValueError:
        return LastTurn()
    num_generated, ttft_s = record.get("num_generated_tokens"), record.get("ttft_s")
    return LastTurn(
        num_generated_tokens=num_generated if isinstance(num_generated, int) else 0,
        ttft_s=ttft_s if isinstance(ttft_s, float) else None,
        miss=MissRow(**known),
    )
