"""Whether a text that came back is a reply that was generated here, and in which tokens."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from engine.models.codec import TextCodec
from engine.models.offered_calls import AnyCalls
from engine.models.reply_marks import ReplyMarks
from engine.models.reply_memo import RememberedReply
from engine.models.reply_reader import MarkedReader
from engine.models.turns import canonical_json
from engine.pieces import CallArguments, CallStart, TextPiece

_BROKEN = "\ufffd"


def comes_back_changed(reply: str, marks: ReplyMarks) -> bool:
    """Whether clients may send a reply back in another text.

    They strip it, write calls anew, and leave reasoning out.
    """
    return reply != reply.strip() or marks.occur_in(reply)


def match_reply(
    text: str,
    replies: Iterable[RememberedReply],
    codec: TextCodec,
    marks: ReplyMarks,
    *,
    is_open: bool,
) -> tuple[int, ...] | None:
    """The tokens for a text between two special tokens, as far as they were generated here.

    Args:
        text: A part of the prompt.
        replies: The replies that were generated in this place, newest first.
        codec: The model's tokenizer.
        marks: What the model writes around reasoning and calls.
        is_open: Whether the text ends the prompt, so that the reply goes on from its last letter.

    Returns:
        Tokens that stand for the text; None where it is none of the replies.
    """
    known = list(replies)
    for reply in known:
        if text == reply.text or (not is_open and _is_same(text, reply, marks)):
            return reply.tokens.token_ids
    longest: tuple[int, ...] | None = None
    num_longest = 0
    for reply in known:
        num_kept = _num_kept(text, reply, codec)
        if num_kept > num_longest:
            joined = _join(reply.tokens.token_ids[:num_kept], text, codec, marks)
            if joined is not None:
                longest, num_longest = joined, num_kept
    return longest


def _is_same(text: str, reply: RememberedReply, marks: ReplyMarks) -> bool:
    """Whether only what clients rewrite is different."""
    opening = reply.opening
    if not text.startswith(opening):
        return False
    return _forms(text[len(opening) :], marks) & _forms(reply.text[len(opening) :], marks) != set()


def _forms(text: str, marks: ReplyMarks) -> set[str]:
    """What clients may make of a reply, in one form whatever they rewrite.

    Texts lose the spaces around them, and stand before the calls; what looked like a call and was
    none to the client is among its texts, so the order of calls says nothing. Some clients keep
    several texts apart, some make them one. What was thought is left out.
    """
    texts = [""]
    calls: list[str] = []
    reader = MarkedReader(marks.reasoning, AnyCalls(marks.calls) if marks.calls else None)
    for piece in [*reader.feed(text), *reader.finish()]:
        if isinstance(piece, TextPiece):
            texts[-1] += piece.text
        elif isinstance(piece, CallStart):
            texts.append("")
            calls.append(piece.name)
        elif isinstance(piece, CallArguments):
            calls[-1] += canonical_json(json.loads(piece.json_text))
    said = [each.strip() for each in texts if each.strip()]
    return {json.dumps([separator.join(said), *sorted(calls)]) for separator in ("\n", "")}


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


def _join(
    kept: tuple[int, ...], text: str, codec: TextCodec, marks: ReplyMarks
) -> tuple[int, ...] | None:
    rest = text[len(codec.decode(kept)) :]
    if any(mark in rest for mark in marks.special):
        return None  # whether it is a special token is not to be seen any more
    joined = (*kept, *codec.encode_literal(rest))
    # Some tokenizers encode the beginning of a text in a way of its own.
    return joined if codec.decode(joined) == text else None
