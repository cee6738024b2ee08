"""A matcher for tests that lets the same tokens pass at every place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Allowing:
    """Lets some tokens pass, up to a number of them; then it is over."""

    token_ids: frozenset[int]
    num_at_most: int = 1 << 30
    taken: list[int] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return len(self.taken) >= self.num_at_most

    def allows(self, token_id: int) -> bool:
        return token_id in self.token_ids

    def allowed(self) -> bytes:
        bits = np.zeros(max(self.token_ids, default=0) + 1, np.uint8)
        bits[list(self.token_ids)] = 1
        return np.packbits(bits, bitorder="little").tobytes()

    def advance(self, token_id: int) -> None:
        assert token_id in self.token_ids
        self.taken.append(token_id)

    def copy(self) -> Allowing:
        return Allowing(self.token_ids, self.num_at_most, list(self.taken))
