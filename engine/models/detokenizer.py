"""Tokens to text, one at a time, holding back what is not yet certain."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from tokenizers import Tokenizer, decoders

_REPLACEMENT = "\ufffd"
_WORD_START = "\u2581"
_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
_MAX_HELD_TOKENS = 16
"""Longer than any character's bytes: more held tokens than this are broken text, not half a one."""


class Detokenizer(Protocol):
    """Text of one growing token sequence. Most special tokens have none."""

    def add(self, token_id: int) -> str:
        """The text that becomes certain with one more token; half a character is held back."""

    def flush(self) -> str:
        """What is still held back, as far as it is text; call once, at the end."""


class ByteDetokenizer:
    """For byte-level tokenizers: every token has its own bytes, whatever stands around it.

    Args:
        token_bytes: The bytes of each token; a token that is missing has none.
    """

    def __init__(self, token_bytes: Mapping[int, bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token_id: int) -> str:
        """The text that becomes certain with one more token."""
        return self._decoder.decode(self._token_bytes.get(token_id, b""))

    def flush(self) -> str:
        """The held-back bytes as replacement characters."""
        return self._decoder.decode(b"", final=True)


class WindowDetokenizer:
    """For any tokenizer: decodes the last few tokens with and without the new one.

    The window starts at a token whose text is already out, because decoders treat the first token
    of a text in a way of its own (they drop its leading space).

    Args:
        tokenizer: Decodes.
        shown: The text of special tokens that have one.
    """

    def __init__(self, tokenizer: Tokenizer, shown: Mapping[int, str]) -> None:
        self._tokenizer = tokenizer
        self._shown = shown
        self._window: list[int] = []
        self._num_out = 0  # leading tokens of the window whose text is out

    def add(self, token_id: int) -> str:
        """The text that becomes certain with one more token."""
        if token_id in self._shown:
            return self.flush() + self._shown[token_id]
        self._window.append(token_id)
        text = self._new_text()
        num_held = len(self._window) - self._num_out
        if not text or (text.endswith(_REPLACEMENT) and num_held <= _MAX_HELD_TOKENS):
            return ""
        del self._window[: self._num_out]
        self._num_out = len(self._window)
        return text

    def flush(self) -> str:
        """The text of the held-back tokens."""
        text = self._new_text()
        self._num_out = len(self._window)
        return text

    def _new_text(self) -> str:
        known = self._tokenizer.decode(self._window[: self._num_out])
        return self._tokenizer.decode(self._window)[len(known) :]


def token_decoder(
    tokenizer: Tokenizer, shown_strings: Collection[str] = ()
) -> Callable[[], Detokenizer]:
    """What makes detokenizers for a tokenizer, the fast kind where its tokens are bytes.

    Args:
        tokenizer: The model's.
        shown_strings: Special tokens that have a text nevertheless: their own.
    """
    fields = json.loads(tokenizer.to_str())
    shown = {
        token["id"]: token["content"]
        for token in fields["added_tokens"]
        if token["content"] in shown_strings
    }
    if (fields.get("decoder") or {}).get("type") != "ByteLevel":
        return lambda: WindowDetokenizer(tokenizer, shown)
    special = {token["id"] for token in fields["added_tokens"] if token["special"]}
    alphabet = _byte_alphabet()
    token_bytes = {
        token_id: _bytes_of(token, alphabet)
        for token, token_id in tokenizer.get_vocab(with_added_tokens=True).items()
        if token_id not in special
    }
    token_bytes |= {token_id: text.encode() for token_id, text in shown.items()}
    return lambda: ByteDetokenizer(token_bytes)


def token_speller(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """What tells the bytes of single tokens; special ones have those of their text."""
    alphabet = _byte_alphabet()
    is_byte_level = isinstance(tokenizer.decoder, decoders.ByteLevel)

    def spell(token_id: int) -> bytes:
        token = tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        return _bytes_of(token, alphabet) if is_byte_level else _piece_bytes(token)

    return spell


def _piece_bytes(piece: str) -> bytes:
    """The bytes of a piece of a SentencePiece vocabulary."""
    if _BYTE_PIECE.fullmatch(piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(_WORD_START, " ").encode()


def _bytes_of(token: str, alphabet: Mapping[str, int]) -> bytes:
    """A token's bytes; an added token may be spelt in plain text instead of the alphabet."""
    try:
        return bytes([alphabet[char] for char in token])
    except KeyError:
        return token.encode()


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2's).

    Bytes that are printable in Latin-1 stand for themselves; the others, in order, are the
    characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(0x100 + number): byte for number, byte in enumerate(others)})
    return alphabet
