"""In how many bits keys and values are kept, where they are not kept as they are computed."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import InvalidRequestError

KV_BITS = (8, 4)
KV_GROUP_SIZES = (32, 64, 128)
DEFAULT_GROUP_SIZE = 64
SCALE_BITS = 16
"""Bits of a group's scale, and of its offset."""


@dataclass(frozen=True, slots=True)
class KVQuantisation:
    """Numbers as levels: ``number = scale * level + offset``.

    Attributes:
        num_bits: Bits of a level.
        group_size: Numbers of a row that share a scale and an offset.
    """

    num_bits: int
    group_size: int = DEFAULT_GROUP_SIZE

    @property
    def key(self) -> str:
        """Its name in files: ``q4g64``."""
        return f"q{self.num_bits}g{self.group_size}"

    @property
    def words(self) -> str:
        """Its name for people."""
        return f"{self.num_bits} bit, group {self.group_size}"

    @property
    def bits_per_number(self) -> float:
        """What a number costs, with its share of scale and offset."""
        return self.num_bits + 2 * SCALE_BITS / self.group_size


def check_bits(num_bits: int | None) -> None:
    """Whether keys and values can be kept so.

    Args:
        num_bits: Bits of a level; 0 for lossless, None for whatever is set.

    Raises:
        InvalidRequestError: They cannot.
    """
    if num_bits is not None and num_bits not in (0, *KV_BITS):
        known = ", ".join(str(bits) for bits in KV_BITS)
        raise InvalidRequestError(f"kv_bits can be {known}, or 0 for lossless, not {num_bits}")


LOSSLESS_KEY = "lossless"
"""Names the format without quantisation in files."""


def format_key(quantisation: KVQuantisation | None) -> str:
    """The name of a format in files.

    Args:
        quantisation: None for lossless.
    """
    return quantisation.key if quantisation else LOSSLESS_KEY


def format_words(quantisation: KVQuantisation | None) -> str:
    """The name of a format for people.

    Args:
        quantisation: None for lossless.
    """
    return quantisation.words if quantisation else LOSSLESS_KEY
