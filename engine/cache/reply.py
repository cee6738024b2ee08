"""A reply in the tokens that were generated for it."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

DIGEST_BYTES = 16

MAX_KEPT_TOKENS = 100_000
"""Tokens of the replies that are kept with one agent."""


@dataclass(frozen=True, slots=True)
class ReplyTokens:
    """How a reply was tokenised, and after which tokens.

    Attributes:
        prefix_digest: ``PrefixDigest`` of everything before ``start_token``.
        start_token: Where it begins in its conversation, in tokens.
        num_opening_tokens: Leading tokens that the prompt gave; the others were generated.
        token_ids: All of it, up to the next special token.
    """

    prefix_digest: bytes
    start_token: int
    num_opening_tokens: int
    token_ids: tuple[int, ...]

    def stands_in(self, token_ids: tuple[int, ...]) -> bool:
        """Whether a conversation has these tokens in this place."""
        end = self.start_token + len(self.token_ids)
        return token_ids[self.start_token : end] == self.token_ids


class PrefixDigest:
    """A short identity of the tokens before a place, grown as a prompt is encoded."""

    def __init__(self, namespace: str = "") -> None:
        """Starts before the first token.

        Args:
            namespace: Who may share caches; equal prompts of others have other digests.
        """
        self._hash = hashlib.blake2b(f"{namespace}\0".encode(), digest_size=DIGEST_BYTES)

    def add(self, token_ids: Iterable[int]) -> None:
        """Takes the next tokens."""
        self._hash.update(array("I", token_ids).tobytes())

    @property
    def value(self) -> bytes:
        """The digest of everything so far."""
        return self._hash.digest()


def kept_replies(
    replies: Iterable[ReplyTokens], prompt_token_ids: tuple[int, ...], newest: ReplyTokens | None
) -> tuple[ReplyTokens, ...]:
    """The replies of a conversation that has had one more turn.

    Args:
        replies: Those kept so far.
        prompt_token_ids: The prompt of the turn; replies that it does not hold are dropped.
        newest: What the turn added, possibly to the last reply.

    Returns:
        As many as may be kept, first ones first: without those the later ones are of no use.
    """
    kept: list[ReplyTokens] = []
    num_tokens = 0
    still_there = [reply for reply in replies if reply.stands_in(prompt_token_ids)]
    if newest is not None:
        still_there = [reply for reply in still_there if reply.start_token < newest.start_token]
        still_there.append(newest)
    for reply in still_there:
        num_tokens += len(reply.token_ids)
        if num_tokens > MAX_KEPT_TOKENS:
            break
        kept.append(reply)
    return tuple(kept)


def to_scalars(reply: ReplyTokens) -> list[Any]:
    """A reply as plain data, fit for JSON."""
    return [
        reply.prefix_digest.hex(),
        reply.start_token,
        reply.num_opening_tokens,
        list(reply.token_ids),
    ]


def from_scalars(data: Any) -> ReplyTokens:
    """The inverse of ``to_scalars``.

    Raises:
        ValueError, TypeError: The data is not a reply.
    """
    digest, start_token, num_opening_tokens, token_ids = data
    reply = ReplyTokens(
        bytes.fromhex(digest), start_token, num_opening_tokens, _checked_tokens(token_ids)
    )
    counts = (start_token, num_opening_tokens)
    if len(reply.prefix_digest) != DIGEST_BYTES or not all(type(n) is int for n in counts):
        raise ValueError("a reply is out of shape")
    if start_token < 0 or not 0 <= num_opening_tokens <= len(reply.token_ids):
        raise ValueError("a reply is out of range")
    return reply


def _checked_tokens(token_ids: Sequence[Any]) -> tuple[int, ...]:
    if len(token_ids) > MAX_KEPT_TOKENS:
        raise ValueError("a reply is too long")
    if not all(type(token) is int and 0 <= token < 1 << 32 for token in token_ids):
        raise ValueError("a reply has no tokens")
    return tuple(token_ids)
