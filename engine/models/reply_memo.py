"""Remembers how replies were tokenised, so that they are recognised when a client sends them back.

A model may write a text in other tokens than the tokenizer would choose for it. The KV cache holds
the model's choice. When the reply comes back as part of the next prompt, the same tokens have to
stand for it, or the cache after them is lost.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

MAX_TOKENS = 1_000_000
"""Tokens of all remembered replies; the oldest are forgotten first."""


class ReplyMemo:
    """Text between two special tokens, and the tokens that were generated for it. Thread-safe."""

    def __init__(self, max_tokens: int = MAX_TOKENS) -> None:
        """Remembers nothing yet.

        Args:
            max_tokens: Bound over all replies.
        """
        self._max_tokens = max_tokens
        self._num_tokens = 0
        self._replies: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many replies are remembered."""
        return len(self._replies)

    def remember(self, text: str, token_ids: tuple[int, ...]) -> None:
        """Keeps the tokens of a text; a later choice for the same text replaces an earlier one."""
        with self._lock:
            self._num_tokens += len(token_ids) - len(self._replies.pop(text, ()))
            self._replies[text] = token_ids
            while self._num_tokens > self._max_tokens:
                _, oldest = self._replies.popitem(last=False)
                self._num_tokens -= len(oldest)

    def recall(self, text: str) -> tuple[int, ...] | None:
        """The tokens of a text, if it was generated here."""
        with self._lock:
            token_ids = self._replies.get(text)
            if token_ids is not None:
                self._replies.move_to_end(text)
            return token_ids
