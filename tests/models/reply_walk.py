"""Replies that keep to a constraint: given ones, and random ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from engine.constraint import Constraint, TokenMatcher
from engine.models.chat import ModelChat

Choose = Callable[[Sequence[int]], int]


def reaches(chat: ModelChat, constraint: Constraint, text: str) -> str:
    """The part of a text that the constraint lets pass, token by token."""
    matcher = constraint.begin()
    token_ids = chat.encode_text(text)
    for index, token_id in enumerate(token_ids):
        if not matcher.allows(token_id):
            return chat.spell(token_ids[:index])
        matcher.advance(token_id)
    return text


def may_end_after(chat: ModelChat, constraint: Constraint, text: str) -> bool:
    """Whether a text is a whole reply; it must pass."""
    matcher = constraint.begin()
    for token_id in chat.encode_text(text):
        assert matcher.allows(token_id)
        matcher.advance(token_id)
    return matcher.is_over or all(map(matcher.allows, chat.end_token_ids))


def allowed_ids(matcher: TokenMatcher) -> list[int]:
    """The tokens that may come next."""
    bits = np.frombuffer(matcher.allowed(), np.uint8)
    return [int(each) for each in np.flatnonzero(np.unpackbits(bits, bitorder="little"))]


def walk(chat: ModelChat, constraint: Constraint, choose: Choose, max_tokens: int = 400) -> str:
    """A reply of tokens that may follow, up to where it must end, or chooses to."""
    matcher = constraint.begin()
    token_ids: list[int] = []
    while not matcher.is_over:
        token_id = choose(allowed_ids(matcher))
        assert matcher.allows(token_id)
        matcher.advance(token_id)
        if token_id in chat.end_token_ids:
            break
        token_ids.append(token_id)
        assert len(token_ids) < max_tokens, chat.spell(token_ids)
    return chat.spell(token_ids)


def at_random(chat: ModelChat, seed: int) -> Choose:
    """Chooses any token, and the end wherever it may."""
    numbers = random.Random(seed)

    def choose(allowed: Sequence[int]) -> int:
        ends = [each for each in allowed if each in chat.end_token_ids]
        return ends[0] if ends else numbers.choice(allowed)

    return choose
