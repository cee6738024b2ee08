"""What an agent's turns were like, and where each of them ended in the cache."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from engine.cache.checkpoint import Place
from engine.snapshot import TurnTimes

MAX_TURN_MARKS = 32
"""Turns that are remembered of an agent."""

_PLAIN: dict[str, type | tuple[type, ...]] = {
    "number": int,
    "num_prompt_tokens": int,
    "num_tokens": int,
    "num_cached_tokens": int,
    "ttft_s": (float, int, type(None)),
    "ended_time": (float, int),
    "miss": str,
    "has_checkpoint": bool,
}
"""Fields that are written as they are, with their types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMark:
    """One turn, and the place where it ended.

    Attributes:
        number: Counts the agent's turns from 1.
        num_prompt_tokens: Its prompt.
        num_tokens: The agent's context at its end, as far as it was kept; 0 if nothing was.
        num_cached_tokens: Prompt tokens that came from the cache.
        ttft_s: Time to first token; None if it never came.
        ended_time: When it ended, wall-clock seconds since the epoch.
        miss: Why tokens were recomputed; empty when none were.
        last_hash: Hash of the last full block of the context, or the root of its chain.
        end_hash: Name of what follows that block: of the tail, or of the checkpoint there.
        has_checkpoint: Whether a checkpoint was made at its end; never for models that need none.
        prompt_places: Places in its prompt where checkpoints were made or used.
        times: Where its time went.
    """

    number: int
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    num_cached_tokens: int = 0
    ttft_s: float | None = None
    ended_time: float = 0.0
    miss: str = ""
    last_hash: bytes = b""
    end_hash: bytes = b""
    has_checkpoint: bool = False
    prompt_places: tuple[Place, ...] = ()
    times: TurnTimes = field(default_factory=TurnTimes)


def to_scalars(mark: TurnMark) -> dict[str, Any]:
    """A mark as plain data, fit for JSON."""
    places = [[place.num_tokens, place.name.hex()] for place in mark.prompt_places]
    return {
        **{name: getattr(mark, name) for name in _PLAIN},
        "last_hash": mark.last_hash.hex(),
        "end_hash": mark.end_hash.hex(),
        "prompt_places": places,
        "times": asdict(mark.times),
    }


def from_scalars(data: Any) -> TurnMark:
    """The inverse of ``to_scalars``.

    Raises:
        ValueError, TypeError: The data is not a mark.
    """
    if not isinstance(data, dict) or {*data, "times"} != {f.name for f in fields(TurnMark)}:
        raise ValueError("a turn's mark is out of shape")
    if not all(isinstance(data[name], kind) for name, kind in _PLAIN.items()):
        raise TypeError("a turn's mark is out of shape")
    places = ((int(num_tokens), bytes.fromhex(name)) for num_tokens, name in data["prompt_places"])
    return TurnMark(
        **{name: data[name] for name in _PLAIN},
        last_hash=bytes.fromhex(data["last_hash"]),
        end_hash=bytes.fromhex(data["end_hash"]),
        prompt_places=tuple(Place(num_tokens, name) for num_tokens, name in places),
        times=_times(data.get("times", {})),
    )


def _times(data: Any) -> TurnTimes:
    """A turn's times; versions that did not measure them have left none."""
    is_times = isinstance(data, dict) and data.keys() <= {f.name for f in fields(TurnTimes)}
    if not is_times or not all(isinstance(value, float | int) for value in data.values()):
        raise ValueError("a turn's times are out of shape")
    return TurnTimes(**data)


class TurnHistory:
    """The marks of an agent's last turns, oldest first."""

    def __init__(self, marks: Iterable[TurnMark] = ()) -> None:
        """Starts with the marks that are known already.

        Args:
            marks: Oldest first; of too many the oldest are dropped.
        """
        self._marks: deque[TurnMark] = deque(marks, MAX_TURN_MARKS)

    def __iter__(self) -> Iterator[TurnMark]:
        """Marks, oldest first."""
        return iter(self._marks)

    def __len__(self) -> int:
        """How many turns are remembered."""
        return len(self._marks)

    @property
    def next_number(self) -> int:
        """The number of the turn that comes next."""
        return self._marks[-1].number + 1 if self._marks else 1

    @property
    def last(self) -> TurnMark | None:
        """The last turn that kept something."""
        return next((mark for mark in reversed(self._marks) if mark.num_tokens), None)

    def add(self, mark: TurnMark) -> None:
        """Adds the turn that has just ended."""
        self._marks.append(mark)

    def get(self, number: int) -> TurnMark | None:
        """The mark of a turn, or None if it is not remembered."""
        return next((mark for mark in self._marks if mark.number == number), None)

    def up_to(self, number: int | None) -> TurnHistory:
        """The history of who starts from the end of a turn; None is the last one."""
        return TurnHistory(m for m in self._marks if number is None or m.number <= number)

    @property
    def token_counts(self) -> set[int]:
        """Places, as tokens before them, where a checkpoint may be."""
        ends = {mark.num_tokens for mark in self._marks if mark.num_tokens}
        return ends | {p.num_tokens for mark in self._marks for p in mark.prompt_places}

    @property
    def end_hashes(self) -> tuple[bytes, ...]:
        """Checkpoints at the ends of turns."""
        return tuple({mark.end_hash: None for mark in self._marks if mark.has_checkpoint})

    @property
    def kept_hashes(self) -> tuple[bytes, ...]:
        """Checkpoints that are worth their room on disk.

        Those of the last prompt, and the ends of all turns; the end of an older prompt lies
        between two ends of turns.
        """
        ends = self.end_hashes
        last = self._marks[-1].prompt_places if self._marks else ()
        return (*ends, *(place.name for place in last if place.name not in ends))
