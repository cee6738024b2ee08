from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.errors import InvalidRequestError, ModelLoadError
from engine.messages import Message, Role, ToolCall, ToolSpec
from engine.models.chat import ModelChat

MakeChat = Callable[[str], ModelChat]
IM_START, IM_END = 1, 2
SPECIAL_TEXTS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]

ALTERNATING = (
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NATIVE_TOOLS = (
    "{% if tools %}<|im_start|>system\nTOOLS "
    "{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m.tool_calls or [] %}CALL {{ c.function.name }}"
    "{% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}{% endfor %}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokens(
    chat: ModelChat, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
) -> tuple[int, ...]:
    return chat.render_chat(messages, tools).token_ids


def message(role: str, text: str, *calls: ToolCall, answers: str | None = None) -> Message:
    return Message(role=Role(role), text=text, tool_calls=calls, tool_call_id=answers)


def call(name: str, arguments_json: str, call_id: str = "c1") -> ToolCall:
    return ToolCall(call_id=call_id, name=name, arguments_json=arguments_json)


WEATHER = ToolSpec(
    name="get_weather",
    description="The weather of a city",
    parameters_json='{"type":"object","properties":{"city":{"type":"string"}}}',
)


@pytest.fixture(scope="session")
def plain_tokenizer(bundled_model_dir: Path) -> Tokenizer:
    """The tokenizer alone, to say what encoding a whole text gives."""
    return Tokenizer.from_file(str(bundled_model_dir / "tokenizer.json"))


@pytest.fixture(scope="session")
def text_of(plain_tokenizer: Tokenizer) -> Callable[[tuple[int, ...]], str]:
    """Tokens as text, special tokens included."""
    return lambda ids: plain_tokenizer.decode(list(ids), skip_special_tokens=False)


def chatml(*turns: tuple[str, str]) -> str:
    """The prompt that the bundled model's template must give."""
    body = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    return f"{body}<|im_start|>assistant\n"


def test_conversation_is_rendered_as_the_model_was_trained(
    bundled_chat: ModelChat, text_of: Callable[[tuple[int, ...]], str]
) -> None:
    ids = tokens(
        bundled_chat,
        [
            message("system", "Be brief."),
            message("user", "Hi"),
            message("assistant", "Hello!"),
            message("user", "Bye"),
        ],
    )

    expected = chatml(
        ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye")
    )
    assert text_of(ids) == expected


def test_system_message_after_the_user_turn_stays_in_its_place(
    bundled_chat: ModelChat, text_of: Callable[[tuple[int, ...]], str]
) -> None:
    ids = tokens(
        bundled_chat, [message("system", "A"), message("user", "B"), message("system", "C")]
    )

    assert text_of(ids) == chatml(("system", "A"), ("user", "B"), ("system", "C"))


def test_model_facts_come_from_its_folder(bundled_chat: ModelChat) -> None:
    assert bundled_chat.max_context_tokens == 8192
    assert bundled_chat.end_token_ids == {0, IM_END}


def test_template_alone_tells_the_end_token(bundled_model_dir: Path, make_chat: MakeChat) -> None:
    folder_config = json.loads((bundled_model_dir / "config.json").read_text())
    del folder_config["eos_token_id"]
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<issue_start>{% endfor %}"
    )
    chat = make_chat(template)

    tokenizer = Tokenizer.from_file(str(bundled_model_dir / "tokenizer.json"))
    assert tokenizer.token_to_id("<issue_start>") in chat.end_token_ids


@settings(deadline=None, max_examples=300)
@given(
    texts=st.lists(st.text(max_size=80), min_size=1, max_size=4),
    spice=st.sampled_from(["", "a<|im_", "<|", "|>", "\ue000", "\ue0000\ue000", "日本 🙂"]),
)
def test_plain_text_gets_the_ids_of_the_whole_prompt(
    bundled_chat: ModelChat, plain_tokenizer: Tokenizer, texts: list[str], spice: str
) -> None:
    turns = [message("user", text + spice) for text in texts]
    if any(special in turn.text for special in SPECIAL_TEXTS for turn in turns):
        return

    ids = tokens(bundled_chat, [message("system", "S"), *turns])

    whole = chatml(("system", "S"), *(("user", turn.text) for turn in turns))
    assert list(ids) == plain_tokenizer.encode(whole, add_special_tokens=False).ids


@settings(deadline=None, max_examples=300)
@given(
    pieces=st.lists(
        st.one_of(
            st.text(max_size=20), st.sampled_from([*SPECIAL_TEXTS, "<|im_", "end|>", "\ue000"])
        ),
        max_size=8,
    ),
    other=st.text(max_size=40),
)
def test_special_strings_in_client_text_stay_text(
    bundled_chat: ModelChat, plain_tokenizer: Tokenizer, pieces: list[str], other: str
) -> None:
    text = "".join(pieces)
    ids = tokens(
        bundled_chat,
        [
            message("system", other),
            message("user", text),
            message("assistant", text),
            message("user", other),
        ],
    )

    assert ids.count(IM_START) == 5
    assert ids.count(IM_END) == 4
    assert ids.count(0) == 0
    decodable = plain_tokenizer.decode(plain_tokenizer.encode(other + text).ids, False)
    if decodable == other + text:  # the vocabulary lacks a few rare bytes
        expected = chatml(("system", other), ("user", text), ("assistant", text), ("user", other))
        assert plain_tokenizer.decode(list(ids), skip_special_tokens=False) == expected


def test_injected_text_leaves_the_ids_of_its_neighbours_alone(bundled_chat: ModelChat) -> None:
    before = tokens(bundled_chat, [message("system", "S"), message("user", "one two")])
    after = tokens(
        bundled_chat,
        [message("system", "S"), message("user", "one two"), message("user", "<|im_end|>")],
    )

    shared = len(before) - 2  # up to the end of the first user message and its line break
    assert after[: shared - 2] == before[: shared - 2]


@pytest.mark.parametrize("special", SPECIAL_TEXTS)
def test_special_strings_in_tools_and_calls_stay_text(
    bundled_chat: ModelChat, special: str
) -> None:
    schema = json.dumps({"type": "object", "properties": {special: {"description": special}}})
    tool = ToolSpec(name=special, description=special, parameters_json=schema)
    ids = tokens(
        bundled_chat,
        [
            message("user", "go"),
            message("assistant", "", call(special, json.dumps({special: [special]}))),
            message("tool", special, answers="c1"),
        ],
        [tool],
    )

    assert ids.count(IM_START) == 5  # system, user, assistant, result, reply
    assert ids.count(IM_END) == 4
    assert ids.count(0) == 0


@pytest.mark.parametrize("special", SPECIAL_TEXTS)
def test_special_strings_in_raw_completions_stay_text(
    bundled_chat: ModelChat, special: str
) -> None:
    assert not {0, IM_START, IM_END} & set(bundled_chat.encode_text(f"a{special}b"))


def test_tools_become_text_where_the_template_has_none(
    bundled_chat: ModelChat, text_of: Callable[[tuple[int, ...]], str]
) -> None:
    text = text_of(
        tokens(
            bundled_chat,
            [
                message("system", "Be nice."),
                message("user", "Weather?"),
                message(
                    "assistant", "Let me look.", call("get_weather", '{"city": "Oslo", "a": 1}')
                ),
                message("tool", "sunny", answers="c1"),
                message("tool", "windy", answers="c2"),
            ],
            [WEATHER],
        )
    )

    system, rest = text.split("Be nice.")
    line = (
        '{"description":"The weather of a city","name":"get_weather",'
        '"parameters":{"properties":{"city":{"type":"string"}},"type":"object"}}'
    )
    assert line in system
    assert (
        "<|im_start|>assistant\nLet me look.\n<tool_call>\n"
        '{"arguments":{"a":1,"city":"Oslo"},"name":"get_weather"}\n</tool_call><|im_end|>'
    ) in rest
    assert rest.count("<|im_start|>user") == 2
    assert (
        "<tool_response>\nsunny\n</tool_response>\n<tool_response>\nwindy\n</tool_response>" in rest
    )


def test_equal_tools_give_equal_prompts_whatever_the_order_of_their_keys(
    bundled_chat: ModelChat,
) -> None:
    schemas = ['{"type":"object","properties":{}}', '{ "properties": {}, "type": "object" }']
    first, second = (
        tokens(
            bundled_chat,
            [message("user", "x")],
            [ToolSpec(name="t", description="d", parameters_json=schema)],
        )
        for schema in schemas
    )

    assert first == second


def test_template_with_tools_gets_them_its_own_way(
    make_chat: MakeChat, text_of: Callable[[tuple[int, ...]], str]
) -> None:
    chat = make_chat(NATIVE_TOOLS)
    text = text_of(
        tokens(
            chat,
            [
                message("user", "Weather?"),
                message("assistant", "", call("get_weather", '{"city":"Oslo"}')),
                message("tool", "<html> & 'rain'", answers="c1"),
            ],
            [WEATHER],
        )
    )

    assert "TOOLS {" in text
    assert "CALL get_weather city=Oslo<|im_end|>" in text
    assert "<|im_start|>tool\n<html> & 'rain'<|im_end|>" in text
    assert "<tool_call>" not in text


@pytest.mark.parametrize("arguments_json", ["not json", "[1]", '"text"', ""])
def test_malformed_past_tool_call_does_not_end_the_conversation(
    make_chat: MakeChat, arguments_json: str
) -> None:
    chat = make_chat(NATIVE_TOOLS)

    assert tokens(
        chat,
        [
            message("user", "x"),
            message("assistant", "", call("get_weather", arguments_json)),
            message("tool", "failed", answers="c1"),
        ],
        [WEATHER],
    )


def test_template_that_must_alternate_gets_everything_merged(
    make_chat: MakeChat, text_of: Callable[[tuple[int, ...]], str]
) -> None:
    chat = make_chat(ALTERNATING)
    text = text_of(
        tokens(
            chat,
            [
                message("system", "Be brief."),
                message("user", "One"),
                message("user", "Two"),
                message("assistant", "Yes"),
                message("user", "Three"),
                message("system", "Remember."),
            ],
        )
    )

    assert text == chatml(
        ("user", "Be brief.\n\nOne\n\nTwo"),
        ("assistant", "Yes"),
        ("user", "Three\n\n<system-reminder>\nRemember.\n</system-reminder>"),
    )


def test_refusal_of_the_template_reaches_the_client(make_chat: MakeChat) -> None:
    chat = make_chat(ALTERNATING)

    with pytest.raises(InvalidRequestError, match="roles must alternate"):
        tokens(chat, [message("assistant", "I go first"), message("user", "No")])


def test_reply_continues_a_last_assistant_message(
    bundled_chat: ModelChat, text_of: Callable[[tuple[int, ...]], str]
) -> None:
    ids = tokens(
        bundled_chat, [message("system", "S"), message("user", "List"), message("assistant", "1. ")]
    )

    assert text_of(ids) == chatml(("system", "S"), ("user", "List")) + "1. "


def test_no_messages_is_the_clients_error(bundled_chat: ModelChat) -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        tokens(bundled_chat, [])


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
    ],
)
def test_template_cannot_reach_out_of_its_sandbox(make_chat: MakeChat, template: str) -> None:
    chat = make_chat(template)

    with pytest.raises(InvalidRequestError):
        tokens(chat, [message("user", "x")])


def test_broken_template_is_a_load_error(make_chat: MakeChat) -> None:
    with pytest.raises(ModelLoadError, match="template"):
        make_chat("{% for m in %}")


def test_model_without_template_names_the_way_out(make_chat: MakeChat) -> None:
    chat = make_chat("")

    with pytest.raises(InvalidRequestError, match="raw completions"):
        tokens(chat, [message("user", "x")])


def test_folder_without_tokenizer_is_a_load_error(bundled_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((bundled_model_dir / "config.json").read_bytes())

    with pytest.raises(ModelLoadError, match=r"tokenizer\.json"):
        ModelChat(tmp_path)


def test_ids_of_calls_are_as_every_template_takes_them(
    make_chat: Callable[[str], ModelChat],
) -> None:
    checked = (
        "{% for c in m.tool_calls or [] %}{{ '' if c.id | length == 9 else raise_exception('id') }}"
    )
    chat = make_chat(NATIVE_TOOLS.replace("{% for c in m.tool_calls or [] %}", checked))
    called = message("assistant", "", call("get_weather", "{}", "toolu_0123456789abcdef"))
    result = message("tool", "Snow.", answers="toolu_0123456789abcdef")
    assert tokens(chat, [message("user", "Hi"), called, result], [WEATHER])
