"""A reply that comes back keeps the tokens that were generated for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.messages import Message, Role
from engine.models.chat import ModelChat
from engine.models.reply_memo import ReplyMemo

QUESTION = Message(role=Role.USER, text="What is the capital of France?")
REPLY = "The capital of France is Paris."
FOLLOW_UP = Message(role=Role.USER, text="And of Italy?")


@pytest.fixture
def chat(bundled_model_dir: Path) -> ModelChat:
    return ModelChat(bundled_model_dir)


def spelled(chat: ModelChat, text: str) -> tuple[int, ...]:
    """Tokens of a text that the tokenizer would not choose: letter by letter."""
    return tuple(token for letter in text for token in chat.encode_text(letter))


def second_prompt(chat: ModelChat, reply: str = REPLY) -> tuple[int, ...]:
    return chat.render_chat([QUESTION, Message(role=Role.ASSISTANT, text=reply), FOLLOW_UP])


def test_an_unusual_tokenisation_is_recognised_when_it_comes_back(chat: ModelChat) -> None:
    first = chat.render_chat([QUESTION])
    generated = spelled(chat, REPLY)
    assert second_prompt(chat)[: len(first) + len(generated)] != first + generated

    chat.remember_reply(first, generated)

    second = second_prompt(chat)
    assert second[: len(first) + len(generated)] == first + generated
    assert second[len(first) + len(generated)] in chat.end_token_ids


def test_what_follows_the_reply_is_encoded_as_ever(chat: ModelChat) -> None:
    first = chat.render_chat([QUESTION])
    usual = second_prompt(chat)
    generated = spelled(chat, REPLY)
    chat.remember_reply(first, generated)
    num_usual = len(first) + len(chat.encode_text(REPLY))
    assert second_prompt(chat)[len(first) + len(generated) :] == usual[num_usual:]


def test_another_text_is_not_touched(chat: ModelChat) -> None:
    usual = second_prompt(chat, "Paris.")
    chat.remember_reply(chat.render_chat([QUESTION]), spelled(chat, REPLY))
    assert second_prompt(chat, "Paris.") == usual


def test_the_same_words_said_by_the_user_are_not_touched(chat: ModelChat) -> None:
    said = [Message(role=Role.USER, text=REPLY)]
    usual = chat.render_chat(said)
    chat.remember_reply(chat.render_chat([QUESTION]), spelled(chat, REPLY))
    assert chat.render_chat(said) == usual


def test_the_usual_tokenisation_needs_no_memory(chat: ModelChat) -> None:
    chat.remember_reply(chat.render_chat([QUESTION]), chat.encode_text(REPLY))
    assert len(chat._replies) == 0


def test_a_special_token_inside_a_reply_ends_what_is_remembered(chat: ModelChat) -> None:
    first = chat.render_chat([QUESTION])
    end = min(chat.end_token_ids)
    chat.remember_reply(first, (*spelled(chat, "Hi"), end, *spelled(chat, "there")))
    second = second_prompt(chat, "Hi")
    assert second[len(first) : len(first) + 2] == spelled(chat, "Hi")


def test_a_reply_cut_inside_a_character_is_not_remembered(chat: ModelChat) -> None:
    first = chat.render_chat([QUESTION])
    chat.remember_reply(first, chat.encode_text("\N{FIRE}")[:-1])
    assert len(chat._replies) == 0


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    memo = ReplyMemo(max_tokens=10)
    memo.remember("a", (1,) * 4)
    memo.remember("b", (2,) * 4)
    assert memo.recall("a") == (1,) * 4
    memo.remember("c", (3,) * 4)
    assert memo.recall("b") is None
    assert memo.recall("a") == (1,) * 4
    memo.remember("a", (4,) * 2)
    memo.remember("d", (5,) * 4)
    assert memo.recall("c") == (3,) * 4
