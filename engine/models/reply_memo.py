"""Remembers how replies were tokenised, so that they are recognised when a client sends them back.

A model may write a text in other tokens than the tokenizer would choose for it. The KV cache holds
the model's choice. When the reply comes back as part of the next prompt, the same tokens have to
stand for it, or the cache after them is lost.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass

from engine.cache.reply import ReplyTokens

MAX_TOKENS = 1_000_000
"""Tokens of all remembered replies; the oldest are forgotten first."""

MAX_PER_PLACE = 4
"""Replies to one prompt that are remembered; a client may ask again and keep either."""

_HEAD_CHARS = 8


@dataclass(frozen=True, slots=True)
class RememberedReply:
    """A reply and its text.

    Attributes:
        tokens: The tokens that were generated for it, and where.
        opening: The text that the prompt gave, without a mark at its end that opens reasoning.
        text: All of its text, opening included.
    """

    tokens: ReplyTokens
    opening: str
    text: str


class ReplyMemo:
    """Replies by the tokens before them. Thread-safe.

    Two agents may write the same words in different tokens, so a text alone does not name a reply.
    """

    def __init__(self, max_tokens: int = MAX_TOKENS) -> None:
        """Remembers nothing yet.

        Args:
            max_tokens: Bound over all replies.
        """
        self._max_tokens = max_tokens
        self._num_tokens = 0
        self._places: OrderedDict[bytes, list[RememberedReply]] = OrderedDict()
        self._heads: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many replies are remembered."""
        return sum(map(len, self._places.values()))

    def __contains__(self, prefix_digest: bytes) -> bool:
        """Whether a reply to that prompt is remembered."""
        return prefix_digest in self._places

    def may_hold(self, text: str) -> bool:
        """Whether a text begins as some remembered reply does; cheap, to be asked first."""
        heads = self._heads
        return bool(heads) and text.startswith(tuple(heads))

    def remember(self, reply: RememberedReply) -> None:
        """Keeps a reply; one of the same text to the same prompt is replaced."""
        digest = reply.tokens.prefix_digest
        with self._lock:
            here = self._places.setdefault(digest, [])
            self._places.move_to_end(digest)
            for old in [r for r in here if r.text == reply.text]:
                self._drop(here, old)
            here.insert(0, reply)
            self._count(reply, 1)
            for old in here[MAX_PER_PLACE:]:
                self._drop(here, old)
            while self._num_tokens > self._max_tokens:
                _, forgotten = self._places.popitem(last=False)
                for old in forgotten:
                    self._count(old, -1)

    def recall(self, prefix_digest: bytes) -> tuple[RememberedReply, ...]:
        """The replies to a prompt, newest first."""
        with self._lock:
            if prefix_digest not in self._places:
                return ()
            self._places.move_to_end(prefix_digest)
            return tuple(self._places[prefix_digest])

    def _drop(self, here: list[RememberedReply], old: RememberedReply) -> None:
        here.remove(old)
        self._count(old, -1)

    def _count(self, reply: RememberedReply, step: int) -> None:
        self._num_tokens += step * len(reply.tokens.token_ids)
        # Replaced whole, because ``may_hold`` reads it without the lock.
        heads = Counter(self._heads)
        heads[reply.opening[:_HEAD_CHARS]] += step
        self._heads = +heads
