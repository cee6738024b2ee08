"""The counting models on a device that has no memory for some of the moves of their caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.cache.disk.records import TensorBytes
from engine.cache.payload_span import PayloadSpan
from engine.errors import OutOfMemoryError
from tests.engine.counting_model import CountingRunner
from tests.engine.stateful_model import StatefulRunner

NO_MEMORY = "[malloc] Unable to allocate 4294967296 bytes."
MOVES = ("restore", "append_block", "cut_block", "cut_tail", "to_bytes", "from_bytes")


class ScarceRunner(CountingRunner):
    """Counts its moves, and fails those it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failing_moves: set[int] = set()
        self.failing_kinds: set[str] = set()
        self.moves: list[str] = []

    def find_memory(self, kind: str) -> None:
        """Takes a move into account.

        Raises:
            OutOfMemoryError: It is one of those that fail.
        """
        self.moves.append(kind)
        if len(self.moves) - 1 in self.failing_moves or kind in self.failing_kinds:
            raise OutOfMemoryError(NO_MEMORY)

    def restore(
        self, payloads: Sequence[Any], num_last_tokens: int, num_capacity_tokens: int
    ) -> Any:
        self.find_memory("restore")
        return super().restore(payloads, num_last_tokens, num_capacity_tokens)

    def append_block(self, caches: Any, payload: Sequence[int]) -> None:
        try:
            self.find_memory("append_block")
        except OutOfMemoryError:
            caches.append(12345)  # some layers have got it, and others have not
            raise
        super().append_block(caches, payload)

    def cut_block(self, caches: Any, index: int) -> Any:
        self.find_memory("cut_block")
        return super().cut_block(caches, index)

    def cut_tail(self, caches: Any, num_tokens: int) -> Any:
        self.find_memory("cut_tail")
        return super().cut_tail(caches, num_tokens)

    def to_bytes(self, payload: Any) -> tuple[TensorBytes, ...]:
        self.find_memory("to_bytes")
        return super().to_bytes(payload)

    def from_bytes(self, tensors: Sequence[TensorBytes], span: PayloadSpan) -> Any:
        self.find_memory("from_bytes")
        return super().from_bytes(tensors, span)


class ScarceStatefulRunner(ScarceRunner, StatefulRunner):
    """The same on the model that goes on at checkpoints only."""
