"""A rendered prompt into tokens, with the tokens of replies that were generated here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from engine.cache.reply import PrefixDigest, ReplyTokens
from engine.models.codec import TextCodec
from engine.models.reply_marks import ReplyMarks
from engine.models.reply_match import comes_back_changed, match_reply
from engine.models.reply_memo import RememberedReply, ReplyMemo
from engine.models.special_text import Disguise, SpecialStrings


class PromptEncoder:
    """Encodes prompts between their special tokens. Thread-safe.

    Special tokens are never merged with their neighbours, so a run between two of them can be
    replaced without touching the rest.
    """

    def __init__(
        self, codec: TextCodec, special_strings: SpecialStrings, marks: ReplyMarks
    ) -> None:
        """Makes an encoder that remembers no replies yet.

        Args:
            codec: The model's tokenizer.
            special_strings: The tokenizer's.
            marks: What the model writes around reasoning and calls; where these are special
                tokens, replies go on behind them nevertheless.
        """
        self._codec = codec
        self._special_strings = special_strings
        self._marks = marks
        borders = {text: n for text, n in codec.special_ids.items() if text not in marks.special}
        self._borders = SpecialStrings(list(borders))
        self._border_ids = frozenset(borders.values())
        self._replies = ReplyMemo()

    @property
    def num_remembered(self) -> int:
        """Replies whose tokens are remembered."""
        return len(self._replies)

    def encode(self, rendered: str, disguise: Disguise | None, namespace: str) -> tuple[int, ...]:
        """Token ids of a rendered prompt.

        Args:
            rendered: The prompt; special strings in it become special tokens.
            disguise: What hides special strings that are plain text; None where there are none.
            namespace: Whose replies may be recognised.
        """
        run = _Run(self._codec, namespace)
        end = len(rendered)
        position = 0
        for text, is_border in self._borders.split(rendered):
            position += len(text)
            said = disguise.take_off(text) if disguise is not None else text
            known: tuple[int, ...] | None = None
            if not is_border and self._replies.may_hold(said):
                replies = self._replies.recall(run.digest())
                known = match_reply(
                    said, replies, self._codec, self._marks, is_open=position == end
                )
            if known is not None:
                run.add_tokens(known)
            else:
                self._encode_new(text, disguise, run)
        return run.token_ids()

    def _encode_new(self, text: str, disguise: Disguise | None, run: _Run) -> None:
        """Adds a text that is no reply of this model's."""
        if disguise is None or disguise.marker not in text:
            run.add(text)
            return
        for part, _ in self._special_strings.split(text):
            if disguise.marker in part:
                run.add_tokens(self._codec.encode_literal(disguise.take_off(part)))
            else:
                run.add(part)

    def remember(
        self, prompt_token_ids: Sequence[int], reply_token_ids: Sequence[int], namespace: str
    ) -> ReplyTokens | None:
        """Keeps how a reply was tokenised, where it would not come back in the same tokens.

        Args:
            prompt_token_ids: The prompt that was answered.
            reply_token_ids: What was generated, without the token that ended it.
            namespace: Whose prompt it was.

        Returns:
            What has to survive a restart; None where the tokenizer would choose the same.
        """
        opening = list(takewhile(self._is_text, reversed(prompt_token_ids)))[::-1]
        generated = tuple(takewhile(self._is_text, reply_token_ids))
        if not generated:
            return None
        start_token = len(prompt_token_ids) - len(opening)
        digest = PrefixDigest(namespace)
        digest.add(prompt_token_ids[:start_token])
        reply = ReplyTokens(digest.value, start_token, len(opening), (*opening, *generated))
        remembered = self._with_text(reply)
        said = remembered.text[len(remembered.opening) :]
        is_usual = tuple(self._codec.encode_literal(remembered.text)) == reply.token_ids
        is_kept = not is_usual or comes_back_changed(said, self._marks)
        if not is_kept and digest.value not in self._replies:
            return None
        self._replies.remember(remembered)
        return reply

    def recollect(self, replies: Iterable[ReplyTokens]) -> None:
        """Takes in what ``remember`` returned before a restart; what is not text is left out."""
        num_known = self._codec.tokenizer.get_vocab_size()
        for reply in replies:
            if all(token < num_known and self._is_text(token) for token in reply.token_ids):
                self._replies.remember(self._with_text(reply))

    def _with_text(self, reply: ReplyTokens) -> RememberedReply:
        token_ids = reply.token_ids
        return RememberedReply(
            reply,
            opening=self._marks.before_reasoning(
                self._codec.decode(token_ids[: reply.num_opening_tokens])
            ),
            text=self._codec.decode(token_ids),
        )

    def _is_text(self, token_id: int) -> bool:
        return token_id not in self._border_ids


class _Run:
    """Tokens so far, and text that is not encoded yet."""

    def __init__(self, codec: TextCodec, namespace: str) -> None:
        self._codec = codec
        self._text: list[str] = []
        self._token_ids: list[int] = []
        self._num_digested = 0
        self._digest = PrefixDigest(namespace)

    def add(self, text: str) -> None:
        """Adds text; its special strings are special tokens."""
        self._text.append(text)

    def add_tokens(self, token_ids: Sequence[int]) -> None:
        """Adds tokens after the text so far."""
        self._flush()
        self._token_ids += token_ids

    def digest(self) -> bytes:
        """The digest of everything so far."""
        self._flush()
        self._digest.add(self._token_ids[self._num_digested :])
        self._num_digested = len(self._token_ids)
        return self._digest.value

    def token_ids(self) -> tuple[int, ...]:
        """Everything so far."""
        self._flush()
        return tuple(self._token_ids)

    def _flush(self) -> None:
        if self._text:
            self._token_ids += self._codec.encode("".join(self._text))
            self._text.clear()
