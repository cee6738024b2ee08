"""What the arrays of a payload look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from engine.cache.payload_span import PayloadSpan

Length = Callable[[PayloadSpan], int]
"""How long the one axis is that depends on the payload's place."""


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One array of a layer's part: the same in every payload but for the length of one axis.

    Attributes:
        dtype: Type of its elements.
        shape: Its axes; that of ``axis`` does not matter.
        axis: The axis that is longer or shorter.
        length: How long that one is.
    """

    dtype: mx.Dtype
    shape: tuple[int, ...]
    axis: int
    length: Length

    def shape_of(self, span: PayloadSpan) -> tuple[int, ...]:
        """The shape it must have in a payload of that place."""
        return (*self.shape[: self.axis], self.length(span), *self.shape[self.axis + 1 :])


PayloadLayout = tuple[tuple[ArrayLayout, ...], ...]
"""The arrays of each layer in turn."""
