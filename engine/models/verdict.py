"""What was found when a converted model was judged against what it was made from."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.models.folder import write_whole

VERDICT_NAME = "stoker-verdict.json"
MAX_PERPLEXITY_CHANGE = 0.15
"""More than this and the model foretells text noticeably worse than its source."""
MIN_GREEDY_AGREEMENT = 0.75
"""Less than this and it goes on differently from its source at every fourth token."""
MIN_VARIETY_SHARE = 0.5
"""Of its source's variety: less than this and it repeats itself where the source does not."""
PRODUCTION_FLOOR_BITS = 4
_VERSION = 1
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A comparison of a model with its source, on one text.

    Attributes:
        source: The model it was made from, as it was called.
        num_bits: Bits of a weight it was made with; 0 where they were not changed.
        text_sha256: The text, in hex.
        num_tokens: Tokens of the text that were compared.
        source_perplexity: Of the text, by the source.
        perplexity: Of the text, by the model; infinite where its numbers were not finite.
        max_logit_error: Largest absolute difference of a logit; infinite likewise.
        greedy_agreement: Share of the tokens after which both would go on the same way.
        source_variety: Share of different runs of four tokens in what the source says, greedily.
        variety: The same of the model.
    """

    source: str
    num_bits: int
    text_sha256: str
    num_tokens: int
    source_perplexity: float
    perplexity: float
    max_logit_error: float
    greedy_agreement: float
    source_variety: float
    variety: float

    @property
    def perplexity_change(self) -> float:
        """How much higher its perplexity is, as a share of the source's."""
        return self.perplexity / self.source_perplexity - 1.0

    @property
    def is_unstable(self) -> bool:
        """Whether it has fewer bits than anything that people rely on should have."""
        return 0 < self.num_bits < PRODUCTION_FLOOR_BITS

    @property
    def faults(self) -> tuple[str, ...]:
        """Why it does not pass, in words; empty when it does."""
        if not math.isfinite(self.perplexity):
            return ("its numbers are not finite",)
        found = (
            (self.is_unstable, f"{self.num_bits} bits are below {PRODUCTION_FLOOR_BITS}"),
            (
                self.perplexity_change > MAX_PERPLEXITY_CHANGE,
                f"perplexity is {self.perplexity_change:.0%} higher, more than "
                f"{MAX_PERPLEXITY_CHANGE:.0%}",
            ),
            (
                self.greedy_agreement < MIN_GREEDY_AGREEMENT,
                f"only {self.greedy_agreement:.0%} of greedy tokens agree, less than "
                f"{MIN_GREEDY_AGREEMENT:.0%}",
            ),
            (
                self.variety < MIN_VARIETY_SHARE * self.source_variety,
                "it repeats itself where its source does not",
            ),
        )
        return tuple(words for is_so, words in found if is_so)

    @property
    def passes(self) -> bool:
        """Whether it may be the default."""
        return not self.faults

    @property
    def words(self) -> str:
        """All of it on one line."""
        if not math.isfinite(self.perplexity):
            return f"fails: {self.faults[0]}"
        facts = (
            f"perplexity {self.perplexity_change:+.1%}, "
            f"{self.greedy_agreement:.0%} of greedy tokens agree, "
            f"logits within {self.max_logit_error:.2g}"
        )
        if self.is_unstable:
            return f"unstable: {facts}"
        return facts if self.passes else f"fails: {'; '.join(self.faults)}"


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Stores a verdict beside a model.

    Raises:
        OSError: The disk refuses.
    """
    fields = {
        name: value if not isinstance(value, float) or math.isfinite(value) else None
        for name, value in asdict(verdict).items()
    }
    write_whole(folder / VERDICT_NAME, json.dumps({"version": _VERSION, **fields}, indent=1) + "\n")


def read_verdict(folder: Path) -> Verdict | None:
    """The verdict on a model; None where there is none, or it cannot be read."""
    path = folder / VERDICT_NAME
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        if path.is_symlink():
            return None
        with path.open("rb") as file:
            fields = json.loads(file.read(_MAX_BYTES))
        if fields["version"] == _VERSION:
            return _verdict(fields)
    return None


def _verdict(fields: dict[str, object]) -> Verdict:
    def number(name: str) -> float:
        value = fields[name]
        if value is None:
            return math.inf
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(name)
        return float(value)

    return Verdict(
        source=str(fields["source"]),
        num_bits=int(number("num_bits")),
        text_sha256=str(fields["text_sha256"]),
        num_tokens=int(number("num_tokens")),
        source_perplexity=number("source_perplexity"),
        perplexity=number("perplexity"),
        max_logit_error=number("max_logit_error"),
        greedy_agreement=number("greedy_agreement"),
        source_variety=number("source_variety"),
        variety=number("variety"),
    )
