"""Whether a text that came back is a reply that was generated here, and in which tokens."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from engine.models.call_format import WRITTEN_CALLS
from engine.models.codec import TextCodec
from engine.models.reply_memo import RememberedReply
from engine.models.turns import canonical_json

_BROKEN = "\ufffd"


def comes_back_changed(reply: str) -> bool:
    """Whether clients may send a reply back in another text: stripped, or its JSON rewritten."""
    return reply != reply.strip() or WRITTEN_CALLS.open_mark in reply


def match_reply(
    text: str, replies: Iterable[RememberedReply], codec: TextCodec, *, is_open: bool
) -> tuple[int, ...] | None:
    """The tokens for a text between two special tokens, as far as they were generated here.

    Args:
        text: A part of the prompt.
        replies: The replies that were generated in this place, newest first.
        codec: The model's tokenizer.
        is_open: Whether the text ends the prompt, so that the reply goes on from its last letter.

    Returns:
        Tokens that stand for the text; None where it is none of the replies.
    """
    known = list(replies)
    for reply in known:
        if text == reply.text or (not is_open and _is_same(text, reply)):
            return reply.tokens.token_ids
    longest: tuple[int, ...] | None = None
    num_longest = 0
    for reply in known:
        num_kept = _num_kept(text, reply, codec)
        if num_kept > num_longest:
            joined = _join(reply.tokens.token_ids[:num_kept], text, codec)
            if joined is not None:
                longest, num_longest = joined, num_kept
    return longest


def _is_same(text: str, reply: RememberedReply) -> bool:
    """Whether only what clients rewrite is different."""
    opening = reply.opening
    if not text.startswith(opening):
        return False
    return _normal_form(text[len(opening) :]) == _normal_form(reply.text[len(opening) :])


def _normal_form(text: str) -> list[str]:
    """Texts and tool calls in order, without the spaces around them, calls as canonical JSON."""
    pieces: list[str] = []
    first, *tagged = text.split(WRITTEN_CALLS.open_mark)
    pieces.append(first.strip())
    for piece in tagged:
        call, _, after = piece.partition(WRITTEN_CALLS.close_mark)
        pieces += [WRITTEN_CALLS.open_mark + _normal_call(call), after.strip()]
    return [piece for piece in pieces if piece]


def _normal_call(text: str) -> str:
    try:
        return canonical_json(json.loads(text))
    except (ValueError, RecursionError):
        return text.strip()


def _num_kept(text: str, reply: RememberedReply, codec: TextCodec) -> int:
    """How many of a reply's tokens a text begins with, if one is a beginning of the other.

    A reply that was cut at a stop string comes back shorter, one that was continued longer.
    """
    num_same = _num_common(text, reply.text)
    said = len(reply.text.rstrip(_BROKEN + " \n"))
    if num_same < min(len(text.rstrip()), said) or num_same <= len(reply.opening):
        return 0
    return _num_tokens_within(reply.tokens.token_ids, text[:num_same], codec)


def _num_common(first: str, second: str) -> int:
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first.startswith(second[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _num_tokens_within(token_ids: Sequence[int], text: str, codec: TextCodec) -> int:
    """The most leading tokens whose text is a beginning of ``text``, whole characters only."""

    def num_chars(num_tokens: int) -> int:
        return len(codec.decode(token_ids[:num_tokens]).rstrip(_BROKEN))

    num_tokens = bisect_right(range(len(token_ids) + 1), len(text), key=num_chars) - 1
    while num_tokens > 0 and not text.startswith(codec.decode(token_ids[:num_tokens])):
        num_tokens -= 1
    return num_tokens


def _join(kept: tuple[int, ...], text: str, codec: TextCodec) -> tuple[int, ...] | None:
    rest = text[len(codec.decode(kept)) :]
    joined = (*kept, *codec.encode_literal(rest))
    # Some tokenizers encode the beginning of a text in a way of its own.
    return joined if codec.decode(joined) == text else None
