"""How a model's weights are to be kept. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How weights are to be kept.

    Attributes:
        num_bits: Bits of a weight; with a mixed recipe, of most of them.
        group_size: Weights that share a scale.
        mixed: One of mlx-lm's recipes, which give some layers more bits than the rest; empty where
            all weights have the same.
    """

    num_bits: int
    group_size: int = 64
    mixed: str = ""

    @property
    def words(self) -> str:
        """It as part of a model's name."""
        return self.mixed.replace("_", "-") if self.mixed else f"{self.num_bits}bit"


def output_bytes(source_bytes: int, source_bits: int, recipe: Recipe) -> int:
    """About how long the weight files of a conversion become.

    Args:
        source_bytes: Length of the source's.
        source_bits: Bits of a weight in the source; 0 where they are not known.
        recipe: What is made of it.
    """
    num_weights = source_bytes * 8 // (source_bits or 16)
    bits = 6 if recipe.mixed else recipe.num_bits
    # A scale and a bias of 16 bits for each group; some small layers keep their type.
    return int(num_weights * (bits + 32 / recipe.group_size) / 8 * 1.1)
