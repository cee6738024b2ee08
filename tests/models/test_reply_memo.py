"""A reply that comes back keeps the tokens that were generated for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache.reply import ReplyTokens
from engine.messages import Message, Role, ToolCall, ToolSpec
from engine.models.chat import ModelChat
from engine.models.reply_memo import RememberedReply, ReplyMemo

QUESTION = Message(role=Role.USER, text="What is the capital of France?")
REPLY = "The capital of France is Paris."
FOLLOW_UP = Message(role=Role.USER, text="And of Italy?")


def tokens(
    chat: ModelChat, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
) -> tuple[int, ...]:
    return chat.render_chat(messages, tools).token_ids


@pytest.fixture
def chat(bundled_model_dir: Path) -> ModelChat:
    return ModelChat(bundled_model_dir)


def spelled(chat: ModelChat, text: str) -> tuple[int, ...]:
    """Tokens of a text that the tokenizer would not choose: letter by letter."""
    return tuple(token for letter in text for token in chat.encode_text(letter))


def second_prompt(chat: ModelChat, reply: str = REPLY) -> tuple[int, ...]:
    return tokens(chat, [QUESTION, Message(role=Role.ASSISTANT, text=reply), FOLLOW_UP])


def test_an_unusual_tokenisation_is_recognised_when_it_comes_back(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    generated = spelled(chat, REPLY)
    assert second_prompt(chat)[: len(first) + len(generated)] != first + generated

    chat.remember_reply(first, generated)

    second = second_prompt(chat)
    assert second[: len(first) + len(generated)] == first + generated
    assert second[len(first) + len(generated)] in chat.end_token_ids


def test_what_follows_the_reply_is_encoded_as_ever(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    usual = second_prompt(chat)
    generated = spelled(chat, REPLY)
    chat.remember_reply(first, generated)
    num_usual = len(first) + len(chat.encode_text(REPLY))
    assert second_prompt(chat)[len(first) + len(generated) :] == usual[num_usual:]


def test_another_text_is_not_touched(chat: ModelChat) -> None:
    usual = second_prompt(chat, "Paris.")
    chat.remember_reply(tokens(chat, [QUESTION]), spelled(chat, REPLY))
    assert second_prompt(chat, "Paris.") == usual


def test_the_same_words_said_by_the_user_are_not_touched(chat: ModelChat) -> None:
    said = [Message(role=Role.USER, text=REPLY)]
    usual = tokens(chat, said)
    chat.remember_reply(tokens(chat, [QUESTION]), spelled(chat, REPLY))
    assert tokens(chat, said) == usual


def test_the_usual_tokenisation_needs_no_memory(chat: ModelChat) -> None:
    assert chat.remember_reply(tokens(chat, [QUESTION]), chat.encode_text(REPLY)) is None


def test_a_special_token_inside_a_reply_ends_what_is_remembered(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    end = min(chat.end_token_ids)
    chat.remember_reply(first, (*spelled(chat, "Hi"), end, *spelled(chat, "there")))
    second = second_prompt(chat, "Hi")
    assert second[len(first) : len(first) + 2] == spelled(chat, "Hi")


@pytest.mark.parametrize("spelling", ["usual", "letter by letter"])
@pytest.mark.parametrize("num_missing", [1, 2, 3])
def test_a_reply_cut_inside_a_character_comes_back_as_it_was_shown(
    chat: ModelChat, num_missing: int, spelling: str
) -> None:
    first = tokens(chat, [QUESTION])
    beginning = "Look here: " if spelling == "usual" else spelled(chat, "Look here: ")
    generated = (
        *(chat.encode_text(beginning) if isinstance(beginning, str) else beginning),
        *chat.encode_text("\N{GOAT}")[:-num_missing],
    )
    chat.remember_reply(first, generated)
    detokenizer = chat.detokenizer()
    shown = "".join(map(detokenizer.add, generated)) + detokenizer.flush()
    second = second_prompt(chat, shown)
    assert second[: len(first) + len(generated)] == first + generated


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(min_size=1, max_size=60).map(lambda text: text.replace("<", "")),
    unit=st.sampled_from([1, 2, 5]),
)
def test_any_script_comes_back_in_the_tokens_it_was_written_in(
    bundled_chat: ModelChat, text: str, unit: int
) -> None:
    pieces = [text[start : start + unit] for start in range(0, len(text), unit)]
    generated = tuple(token for piece in pieces for token in bundled_chat.encode_text(piece))
    detokenizer = bundled_chat.detokenizer()
    shown = "".join(map(detokenizer.add, generated)) + detokenizer.flush()
    question = Message(role=Role.USER, text=f"Write: {text!r} {unit}")
    first = tokens(bundled_chat, [question])
    bundled_chat.remember_reply(first, generated)
    reply = Message(role=Role.ASSISTANT, text=shown)
    second = tokens(bundled_chat, [question, reply, FOLLOW_UP])
    assert second[: len(first) + len(generated)] == first + generated


@pytest.mark.parametrize(
    ("said", "came_back"),
    [
        (f"{REPLY}\n\n", REPLY),
        (f"\n\n {REPLY}", REPLY),
        (f" {REPLY} ", f"{REPLY}\n"),
        (
            'Look.\n\n<tool_call>{"name": "t", "arguments": {"b": 1, "a": [2]}}</tool_call>\n',
            'Look.\n<tool_call>\n{"arguments":{"a":[2],"b":1},"name":"t"}\n</tool_call>',
        ),
    ],
)
@pytest.mark.parametrize("spell", [spelled, ModelChat.encode_text])
def test_a_reply_that_the_client_wrote_anew_is_still_the_reply(
    chat: ModelChat,
    said: str,
    came_back: str,
    spell: Callable[[ModelChat, str], tuple[int, ...]],
) -> None:
    first = tokens(chat, [QUESTION])
    generated = spell(chat, said)
    chat.remember_reply(first, generated)
    second = second_prompt(chat, came_back)
    assert second[: len(first) + len(generated)] == first + generated
    assert second[len(first) + len(generated)] in chat.end_token_ids


def test_a_call_of_the_model_comes_back_as_the_call_it_was(chat: ModelChat) -> None:
    tool = ToolSpec(name="t", description="d", parameters_json="{}")
    first = tokens(chat, [QUESTION], [tool])
    said = 'Look:\n<tool_call>\n{"name": "t", "arguments": {"b": 1, "a": 2}}\n</tool_call>'
    generated = chat.encode_text(said)
    chat.remember_reply(first, generated)
    call = ToolCall(call_id="c", name="t", arguments_json='{"a":2,  "b":1}')
    second = tokens(
        chat,
        [
            QUESTION,
            Message(role=Role.ASSISTANT, text="Look:", tool_calls=(call,)),
            Message(role=Role.TOOL, text="fine", tool_call_id="c"),
        ],
        [tool],
    )
    assert second[: len(first) + len(generated)] == first + generated


@pytest.mark.parametrize("text", ["One.\nTwo.", "One.Two."])
def test_texts_around_a_call_may_come_back_as_one_text_before_it(
    chat: ModelChat, text: str
) -> None:
    tool = ToolSpec(name="t", description="d", parameters_json="{}")
    first = tokens(chat, [QUESTION], [tool])
    generated = chat.encode_text('One.\n<tool_call>{"name": "t"}</tool_call>\nTwo.\n')
    chat.remember_reply(first, generated)
    call = ToolCall(call_id="c", name="t", arguments_json="{}")
    result = Message(role=Role.TOOL, text="fine", tool_call_id="c")
    whole = first + generated
    for said, is_same in ((text, True), ("One. Two.", False)):
        reply = Message(role=Role.ASSISTANT, text=said, tool_calls=(call,))
        second = tokens(chat, [QUESTION, reply, result], [tool])
        assert (second[: len(whole)] == whole) is is_same


def test_a_reply_cut_at_a_stop_string_keeps_the_tokens_before_it(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    generated = spelled(chat, REPLY)
    chat.remember_reply(first, (*generated, *spelled(chat, " STOP")))
    second = second_prompt(chat)
    assert second[: len(first) + len(generated)] == first + generated


def test_a_reply_that_goes_on_keeps_its_beginning(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    generated = spelled(chat, "The capital of ")
    chat.remember_reply(first, generated)
    messages = [QUESTION, Message(role=Role.ASSISTANT, text="The capital of ")]
    assert tokens(chat, messages) == first + generated
    rest = spelled(chat, "France is Paris.")
    chat.remember_reply(first + generated, rest)
    second = second_prompt(chat)
    assert second[: len(first) + len(generated + rest)] == first + generated + rest


def test_an_open_reply_goes_on_from_the_letter_the_client_chose(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    generated = spelled(chat, "The ")
    chat.remember_reply(first, generated)
    messages = [QUESTION, Message(role=Role.ASSISTANT, text="The")]
    assert tokens(chat, messages) == first + generated[:-1]


def test_equal_words_of_two_agents_keep_their_own_tokens(chat: ModelChat) -> None:
    other = Message(role=Role.USER, text="Which city is it?")
    chat.remember_reply(tokens(chat, [QUESTION]), spelled(chat, REPLY))
    reply = Message(role=Role.ASSISTANT, text=REPLY)
    first = tokens(chat, [other])
    usual = first + chat.encode_text(REPLY)
    assert tokens(chat, [other, reply, FOLLOW_UP])[: len(usual)] == usual


def test_a_reply_of_another_namespace_is_not_recognised(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    usual = second_prompt(chat)
    chat.remember_reply(first, spelled(chat, REPLY), "alice")
    assert second_prompt(chat) == usual
    messages = [QUESTION, Message(role=Role.ASSISTANT, text=REPLY), FOLLOW_UP]
    assert chat.render_chat(messages, namespace="alice").token_ids != usual


def test_of_two_replies_to_one_prompt_either_may_come_back(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    odd, usual = spelled(chat, "Paris, I think."), chat.encode_text("Paris. Why?")
    chat.remember_reply(first, odd)
    chat.remember_reply(first, usual)
    for text, generated in (("Paris, I think.", odd), ("Paris. Why?", usual)):
        assert second_prompt(chat, text)[: len(first) + len(generated)] == first + generated


def test_a_reply_that_spells_a_special_token_comes_back(chat: ModelChat) -> None:
    first = tokens(chat, [QUESTION])
    generated = spelled(chat, "It is <|im_end|> there")
    assert not set(generated) & chat.end_token_ids
    chat.remember_reply(first, generated)
    second = second_prompt(chat, "It is <|im_end|> there")
    assert second[: len(first) + len(generated)] == first + generated


def test_what_was_remembered_survives_a_restart(chat: ModelChat, bundled_model_dir: Path) -> None:
    first = tokens(chat, [QUESTION])
    generated = spelled(chat, REPLY)
    reply = chat.remember_reply(first, generated)
    assert reply is not None
    assert reply.stands_in(first + generated)
    assert not reply.stands_in(first + generated[1:])

    restarted = ModelChat(bundled_model_dir)
    restarted.recollect_replies([reply])

    assert second_prompt(restarted) == second_prompt(chat)
    assert second_prompt(restarted)[: len(first) + len(generated)] == first + generated


def remembered(name: str, *token_ids: int) -> RememberedReply:
    reply = ReplyTokens(name.encode(), 0, 0, token_ids)
    return RememberedReply(reply, opening="assistant\n", text=f"assistant\n{name}{token_ids}")


def token_ids_of(memo: ReplyMemo, name: str) -> list[tuple[int, ...]]:
    return [reply.tokens.token_ids for reply in memo.recall(name.encode())]


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    memo = ReplyMemo(max_tokens=10)
    memo.remember(remembered("a", 1, 1, 1, 1))
    memo.remember(remembered("b", 2, 2, 2, 2))
    assert token_ids_of(memo, "a") == [(1, 1, 1, 1)]
    memo.remember(remembered("c", 3, 3, 3, 3))
    assert token_ids_of(memo, "b") == []
    assert token_ids_of(memo, "a") == [(1, 1, 1, 1)]
    memo.remember(remembered("a", 4, 4))
    assert token_ids_of(memo, "a") == [(4, 4), (1, 1, 1, 1)]
    assert len(memo) == 3


def test_replies_to_one_prompt_are_bounded_too() -> None:
    memo = ReplyMemo()
    for number in range(10):
        memo.remember(remembered("a", number))
    assert token_ids_of(memo, "a") == [(9,), (8,), (7,), (6,)]


def test_an_empty_memory_asks_nothing_of_a_prompt() -> None:
    memo = ReplyMemo(max_tokens=3)
    assert not memo.may_hold("assistant\nHi")
    memo.remember(remembered("a", 1))
    assert memo.may_hold("assistant\nHi")
    assert not memo.may_hold("user\nHi")
    memo.remember(remembered("b", 1, 2, 3, 4))
    assert len(memo) == 0
    assert not memo.may_hold("assistant\nHi")
