"""Text to tokens and back, without a chat template."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer


class TextCodec:
    """One tokenizer, in the three ways in which prompts need it. Thread-safe.

    Args:
        content: The content of a ``tokenizer.json``.

    Raises:
        ValueError: It is none.
    """

    def __init__(self, content: bytes) -> None:
        self.tokenizer = Tokenizer.from_buffer(content)
        self._literal = Tokenizer.from_buffer(content)
        self._literal.encode_special_tokens = True
        self.special_ids = {
            added.content: token_id
            for token_id, added in self.tokenizer.get_added_tokens_decoder().items()
            if added.special
        }

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special strings in it become special tokens."""
        return _ids(self.tokenizer, text, add_special_tokens=False)

    def encode_literal(self, text: str) -> list[int]:
        """Token ids of a text; special strings in it are plain text."""
        return _ids(self._literal, text, add_special_tokens=False)

    def encode_alone(self, text: str) -> list[int]:
        """Token ids of plain text that stands alone, with what the tokenizer puts around it."""
        return _ids(self._literal, text, add_special_tokens=True)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens; broken characters are replaced."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False)


def _ids(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> list[int]:
    # A batch of one: unlike ``encode`` it lets other threads run, the engine's above all.
    [encoding] = tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    return encoding.ids
