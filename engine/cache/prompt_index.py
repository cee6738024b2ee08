"""Finding the agent that is meant by a prompt alone."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def prompt_digest(token_ids: Sequence[int]) -> bytes:
    """A short identity of a prompt; empty for an empty one."""
    return hashlib.sha256(array("I", token_ids).tobytes()).digest() if token_ids else b""


class PromptIndex(Generic[T]):
    """Prompts by length and digest, so that the longest prefix of another is found by hashing it.

    One pass over a prompt, however many are known; nothing but digests is kept.
    """

    def __init__(self) -> None:
        """Makes an empty index."""
        self._by_length: dict[int, dict[bytes, dict[T, None]]] = {}
        self._lengths: list[int] = []

    def add(self, num_tokens: int, digest: bytes, owner: T) -> None:
        """Adds a prompt of that length and ``prompt_digest``."""
        if num_tokens not in self._by_length:
            self._by_length[num_tokens] = {}
            insort(self._lengths, num_tokens)
        self._by_length[num_tokens].setdefault(digest, {})[owner] = None

    def remove(self, num_tokens: int, digest: bytes, owner: T) -> None:
        """Removes a prompt that was added for that owner; unknown ones are ignored."""
        by_digest = self._by_length.get(num_tokens, {})
        by_digest.get(digest, {}).pop(owner, None)
        if digest in by_digest and not by_digest[digest]:
            del by_digest[digest]
        if num_tokens in self._by_length and not by_digest:
            del self._by_length[num_tokens]
            self._lengths.remove(num_tokens)

    def prefixes_of(self, token_ids: Sequence[int]) -> Iterator[T]:
        """Owners of prompts that this one begins with, of the longest first."""
        digest = hashlib.sha256()
        found: list[dict[T, None]] = []
        start = 0
        for num_tokens in self._lengths[: bisect_right(self._lengths, len(token_ids))]:
            digest.update(array("I", token_ids[start:num_tokens]).tobytes())
            start = num_tokens
            owners = self._by_length[num_tokens].get(digest.copy().digest())
            if owners:
                found.append(owners)
        for owners in reversed(found):
            yield from owners
