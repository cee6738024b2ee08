"""What moves KV between a sequence's own cache and block payloads."""

from __future__ import annotations

from typing import Any, Protocol


class CacheMover(Protocol):
    """Cuts and restores caches; the model runner is one.

    All but ``new_cache`` raise ``OutOfMemoryError`` where there is no memory for it. Only
    ``append_block`` leaves a cache of no use then.
    """

    def new_cache(self) -> Any:
        """An empty cache for one sequence."""

    def restore(
        self, payloads: list[object], num_last_tokens: int, num_capacity_tokens: int
    ) -> Any:
        """A sequence's cache from block payloads; the last may be a tail or a checkpoint."""

    def trim(self, caches: Any, num_tokens: int) -> None:
        """Takes the last tokens back; for models that need no checkpoints."""

    def append_block(self, caches: Any, payload: object) -> None:
        """Appends a block to a sequence's cache; for models that need no checkpoints."""

    def cut_block(self, caches: Any, index: int) -> object:
        """Copies a full block out of a sequence's cache."""

    def cut_tail(self, caches: Any, num_tokens: int) -> object:
        """Copies what follows the last full block: a tail, or a checkpoint."""
