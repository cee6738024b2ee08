"""What holds for one model where a request, or the settings, say nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from engine.cache.quantisation import DEFAULT_GROUP_SIZE, KVQuantisation


class ToolFormat(StrEnum):
    """How a model is told of tools, and how it writes calls."""

    AUTO = "auto"
    """As its chat template has it."""
    HERMES = "hermes"
    """In the system prompt, and as JSON between marks, whatever its template has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefaults:
    """What is set for one model.

    Attributes:
        sampling: Fields of a request, with the values they have where it does not send them.
        context_tokens: The longest context; 0 for the model's own limit.
        kv_bits: Bits of keys and values; 0 keeps them as computed, None as it is set for all.
        kv_group_size: Numbers that share a scale; None as it is set for all.
        system_prefix: Stands before every system prompt.
        tool_format: How it is told of tools.
    """

    sampling: Mapping[str, float] = field(default_factory=dict)
    context_tokens: int = 0
    kv_bits: int | None = None
    kv_group_size: int | None = None
    system_prefix: str = ""
    tool_format: ToolFormat = ToolFormat.AUTO

    def quantisation(self, general: KVQuantisation | None) -> KVQuantisation | None:
        """How keys and values of this model are kept; None for lossless.

        Args:
            general: How they are kept where nothing is set for the model.
        """
        num_bits = self.kv_bits
        if num_bits is None:
            num_bits = general.num_bits if general else 0
        if not num_bits:
            return None
        general_size = general.group_size if general else DEFAULT_GROUP_SIZE
        return KVQuantisation(num_bits, self.kv_group_size or general_size)

    def limited(self, max_context_tokens: int) -> int:
        """The longest context of a model.

        Args:
            max_context_tokens: What it can hold.
        """
        return min(max_context_tokens, self.context_tokens or max_context_tokens)


NO_DEFAULTS = ModelDefaults()
