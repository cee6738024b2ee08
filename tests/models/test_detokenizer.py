from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from engine.models.chat import ModelChat
from engine.models.detokenizer import (
    ByteDetokenizer,
    Detokenizer,
    WindowDetokenizer,
    token_decoder,
    token_speller,
)


@pytest.fixture(scope="session")
def tokenizer(bundled_model_dir: Path) -> Tokenizer:
    """The bundled model's tokenizer, byte-level."""
    return Tokenizer.from_file(str(bundled_model_dir / "tokenizer.json"))


@pytest.fixture(scope="session")
def sentence_tokenizer() -> Tokenizer:
    """A small SentencePiece-like tokenizer: spaces are marks, unknown characters are bytes."""
    words = ["▁the", "▁quick", "▁", "fox", "the", "q", "u", "i", "c", "k", "e", "."]
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocab |= {word: 256 + index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    return tokenizer


def text_by_token(detokenizer: Detokenizer, token_ids: list[int]) -> str:
    return "".join(map(detokenizer.add, token_ids)) + detokenizer.flush()


@settings(deadline=None, max_examples=500)
@given(token_ids=st.lists(st.integers(0, 49151), max_size=40))
def test_any_tokens_give_the_text_of_decoding_them_at_once(
    tokenizer: Tokenizer, bundled_chat: ModelChat, token_ids: list[int]
) -> None:
    assert text_by_token(bundled_chat.detokenizer(), token_ids) == tokenizer.decode(token_ids)


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=60))
def test_no_broken_character_is_ever_shown(
    tokenizer: Tokenizer, bundled_chat: ModelChat, text: str
) -> None:
    token_ids = tokenizer.encode(text).ids
    expected = tokenizer.decode(token_ids)
    detokenizer = bundled_chat.detokenizer()

    shown = ""
    for token_id in token_ids:
        shown += detokenizer.add(token_id)
        assert expected.startswith(shown)


def test_half_an_emoji_waits_for_its_other_half(
    tokenizer: Tokenizer, bundled_chat: ModelChat
) -> None:
    token_ids = tokenizer.encode("🦊").ids
    detokenizer = bundled_chat.detokenizer()

    pieces = [detokenizer.add(token_id) for token_id in token_ids]

    assert len(pieces) > 1
    assert pieces == ["", *[""] * (len(pieces) - 2), "🦊"]
    assert detokenizer.flush() == ""


def test_bundled_tokenizer_takes_the_fast_path(bundled_chat: ModelChat) -> None:
    assert isinstance(bundled_chat.detokenizer(), ByteDetokenizer)


def test_other_tokenizers_take_the_general_path(sentence_tokenizer: Tokenizer) -> None:
    assert isinstance(token_decoder(sentence_tokenizer)(), WindowDetokenizer)


@settings(deadline=None, max_examples=300)
@given(text=st.text(alphabet="the quick fox.é🦊日 ", max_size=40))
def test_general_path_gives_the_text_of_decoding_at_once(
    sentence_tokenizer: Tokenizer, text: str
) -> None:
    token_ids = sentence_tokenizer.encode(text).ids

    shown = text_by_token(token_decoder(sentence_tokenizer)(), token_ids)

    assert shown == sentence_tokenizer.decode(token_ids)


def test_general_path_does_not_hold_broken_bytes_for_ever(sentence_tokenizer: Tokenizer) -> None:
    detokenizer = token_decoder(sentence_tokenizer)()

    shown = "".join(detokenizer.add(0xFF) for _ in range(40))

    assert shown


def test_the_bytes_of_single_tokens_are_those_of_the_text(bundled_chat: ModelChat) -> None:
    text = "naïve 🦊\n\tdef f(): 日本"
    token_ids = bundled_chat.encode_text(text)
    assert b"".join(map(bundled_chat.spell_token, token_ids)) == text.encode()
    assert bundled_chat.spell_token(2) == b"<|im_end|>"
    assert bundled_chat.spell_token(10**6) == b""


def test_the_bytes_of_sentence_pieces_are_those_of_the_text(sentence_tokenizer: Tokenizer) -> None:
    spell = token_speller(sentence_tokenizer)
    text = "the fox 🦊 é"
    token_ids = sentence_tokenizer.encode(text).ids
    assert b"".join(map(spell, token_ids)).decode().lstrip(" ") == text
