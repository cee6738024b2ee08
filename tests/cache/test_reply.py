"""Which replies are kept with an agent, and that damaged ones are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.cache.reply import (
    MAX_KEPT_TOKENS,
    PrefixDigest,
    ReplyTokens,
    from_scalars,
    kept_replies,
    to_scalars,
)


def reply_at(start: int, *token_ids: int) -> ReplyTokens:
    digest = PrefixDigest()
    digest.add(range(start))
    return ReplyTokens(digest.value, start, 1, token_ids)


FIRST, SECOND = reply_at(2, 7, 8), reply_at(6, 7, 9)


def test_a_conversation_keeps_the_replies_it_still_holds() -> None:
    prompt = (0, 1, 7, 8, 4, 5, 7)
    assert kept_replies([FIRST], prompt, SECOND) == (FIRST, SECOND)
    assert kept_replies([FIRST, SECOND], prompt, None) == (FIRST,)
    assert kept_replies([FIRST], (0, 1, 9, 9, 9, 9, 7), SECOND) == (SECOND,)


def test_a_reply_that_goes_on_replaces_its_beginning() -> None:
    longer = reply_at(2, 7, 8, 9)
    assert kept_replies([FIRST], (0, 1, 7, 8), longer) == (longer,)


def test_what_is_kept_is_bounded_from_the_front() -> None:
    prompt = (0, 1, *[3] * MAX_KEPT_TOKENS)
    whole = reply_at(2, *[3] * MAX_KEPT_TOKENS)
    assert kept_replies([whole], prompt, reply_at(len(prompt), 1)) == (whole,)


def test_digests_tell_places_and_namespaces_apart() -> None:
    def digest(namespace: str, *pieces: list[int]) -> bytes:
        digest = PrefixDigest(namespace)
        for piece in pieces:
            digest.add(piece)
        return digest.value

    assert digest("", [1, 2], [3]) == digest("", [1], [2, 3])
    assert len({digest("", [1]), digest("", [1, 1]), digest("a", [1])}) == 3


def test_a_reply_survives_being_written_down() -> None:
    assert from_scalars(json.loads(json.dumps(to_scalars(FIRST)))) == FIRST


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "zz"),
        (0, "00"),
        (0, 5),
        (1, -1),
        (1, 0.5),
        (1, True),
        (2, 99),
        (2, "1"),
        (3, 5),
        (3, [1 << 32]),
        (3, [-1]),
        (3, ["1"]),
        (3, [1] * (MAX_KEPT_TOKENS + 1)),
    ],
)
def test_a_damaged_reply_is_refused(place: int, value: Any) -> None:
    scalars = to_scalars(FIRST)
    scalars[place] = value
    with pytest.raises((ValueError, TypeError)):
        from_scalars(scalars)


def test_a_reply_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises((ValueError, TypeError)):
        from_scalars([1, 2])
