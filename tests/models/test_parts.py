"""Where the parts of a prompt begin: the same place in every prompt that shares what is before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.messages import Message, RenderedPrompt, Role, ToolCall, ToolSpec
from engine.models.chat import ModelChat
from engine.request import PromptPart

MakeChat = Callable[[str], ModelChat]
TOOL = ToolSpec(
    name="look", description="Looks", parameters_json='{"type":"object","properties":{}}'
)

NATIVE_TOOLS = (
    "{% if tools %}<|im_start|>system\nTOOLS "
    "{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}"
    "{% for c in m.tool_calls or [] %}CALL {{ c.function.name }}"
    "{% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}{% endfor %}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ONE_SPECIAL = (
    "<repo_name>{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<issue_start>{{ m.content }}"
    "{% else %}<issue_comment>{{ m.content }}<|endoftext|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<issue_comment>{% endif %}"
)
NO_SPECIALS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REVERSED = (
    "{% for m in messages | reverse %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "<|im_start|>assistant\n"
)


def message(role: str, text: str, *calls: ToolCall, answers: str | None = None) -> Message:
    return Message(role=Role(role), text=text, tool_calls=calls, tool_call_id=answers)


def labels(prompt: RenderedPrompt) -> list[str]:
    return [part.label for part in prompt.parts]


def texts(chat: ModelChat, prompt: RenderedPrompt) -> list[str]:
    """The text of each part."""
    starts = [part.start_token for part in prompt.parts]
    ends = [*starts[1:], len(prompt.token_ids)]
    pieces = [prompt.token_ids[a:b] for a, b in zip(starts, ends, strict=True)]
    return [chat._codec.decode(piece) for piece in pieces]


def test_every_message_is_a_part_and_ends_with_its_own_end(bundled_chat: ModelChat) -> None:
    prompt = bundled_chat.render_chat(
        [
            message("system", "Be brief."),
            message("user", "Hi"),
            message("assistant", "Hello!"),
            message("system", "Late"),
        ]
    )
    assert list(zip(labels(prompt), texts(bundled_chat, prompt), strict=True)) == [
        ("system", "<|im_start|>system\nBe brief.<|im_end|>"),
        ("message 1 (user)", "\n<|im_start|>user\nHi<|im_end|>"),
        ("message 2 (assistant)", "\n<|im_start|>assistant\nHello!<|im_end|>"),
        ("message 3 (system)", "\n<|im_start|>system\nLate<|im_end|>"),
        ("reply", "\n<|im_start|>assistant\n"),
    ]


@pytest.mark.parametrize("system", [[], [message("system", "S")]])
@pytest.mark.parametrize("tools", [(), (TOOL,)])
def test_what_agents_share_is_named(
    bundled_chat: ModelChat, system: list[Message], tools: Sequence[ToolSpec]
) -> None:
    prompt = bundled_chat.render_chat([*system, message("user", "Hi")], tools)
    # Without a system message the template of the bundled model writes one of its own.
    first = {(0, 0): "system", (0, 1): "tools", (1, 0): "system", (1, 1): "tools and system"}
    assert labels(prompt) == [first[len(system), len(tools)], "message 1 (user)", "reply"]


def test_tools_that_the_template_writes_are_a_part_of_their_own(make_chat: MakeChat) -> None:
    chat = make_chat(NATIVE_TOOLS)
    call = ToolCall(call_id="c", name="look", arguments_json="{}")
    prompt = chat.render_chat(
        [
            message("system", " S "),
            message("user", "look"),
            message("assistant", "", call),
            message("tool", "look", answers="c"),
        ],
        [TOOL],
    )
    assert labels(prompt) == [
        "tools",
        "system",
        "message 1 (user)",
        "message 2 (assistant)",
        "message 3 (tool)",
        "reply",
    ]
    assert texts(chat, prompt)[3] == "\n<|im_start|>assistant\nCALL look<|im_end|>"


def test_a_token_that_tells_what_follows_belongs_to_what_follows(make_chat: MakeChat) -> None:
    chat = make_chat(ONE_SPECIAL)
    messages = [message("user", "U1"), message("assistant", "A1"), message("user", "U2")]
    prompt = chat.render_chat(messages)
    assert texts(chat, prompt)[1:] == [
        "<issue_comment>A1<|endoftext|>",
        "<issue_start>U2",
        "<issue_comment>",
    ]


def test_messages_that_are_merged_are_one_part(make_chat: MakeChat) -> None:
    chat = make_chat(ALTERNATING)
    prompt = chat.render_chat(
        [message("system", "S"), message("user", "1"), message("user", "2"), message("user", "3")]
    )
    assert labels(prompt) == ["system to message 3 (user)", "reply"]


def test_results_that_share_a_turn_are_one_part(bundled_chat: ModelChat) -> None:
    calls = [ToolCall(call_id=n, name="look", arguments_json="{}") for n in "ab"]
    prompt = bundled_chat.render_chat(
        [
            message("user", "Go"),
            message("assistant", "", *calls),
            message("tool", "A", answers="a"),
            message("tool", "B", answers="b"),
            message("user", "So?"),
        ],
        [TOOL],
    )
    assert labels(prompt)[2:] == [
        "message 2 (assistant)",
        "message 3 (tool) and message 4 (tool)",
        "message 5 (user)",
        "reply",
    ]


def test_without_special_tokens_there_is_one_part(make_chat: MakeChat) -> None:
    chat = make_chat(NO_SPECIALS)
    messages = [message("system", "S"), message("user", "U1"), message("user", "U2")]
    assert chat.render_chat(messages).parts == (PromptPart("system to reply", 0),)


def test_a_template_that_moves_texts_gets_no_parts(make_chat: MakeChat) -> None:
    chat = make_chat(REVERSED)
    assert chat.render_chat([message("user", "1"), message("assistant", "2")] * 2).parts == ()


def test_a_continued_reply_belongs_to_the_reply(bundled_chat: ModelChat) -> None:
    prompt = bundled_chat.render_chat([message("user", "List"), message("assistant", "1. ")])
    assert labels(prompt) == ["system", "message 1 (user)", "reply"]
    assert texts(bundled_chat, prompt)[2].endswith("assistant\n1. ")


TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", " ", "user", "<|im_end|>", "<|im_start|>user\nHi", "\ufdd00\ufdd1", "\n"]),
)
MESSAGE = st.builds(message, st.sampled_from(["user", "assistant", "system"]), TEXT)


@settings(max_examples=200, deadline=None)
@given(
    shared=st.lists(MESSAGE, min_size=1, max_size=5),
    first=st.lists(MESSAGE, min_size=1, max_size=3),
    second=st.lists(MESSAGE, min_size=1, max_size=3),
    has_tools=st.booleans(),
    is_odd=st.booleans(),
)
def test_parts_are_the_same_where_everything_before_them_is(
    bundled_chat: ModelChat,
    shared: list[Message],
    first: list[Message],
    second: list[Message],
    has_tools: bool,
    is_odd: bool,
) -> None:
    tools = [TOOL] if has_tools else []
    system = [message("system", "S"), message("user", "Go")]
    if is_odd:
        before = bundled_chat.render_chat([*system, *shared], tools).token_ids
        bundled_chat.remember_reply(before, bundled_chat.encode_text("x") * 3)
    one = bundled_chat.render_chat([*system, *shared, *first, message("user", "?")], tools)
    other = bundled_chat.render_chat([*system, *shared, *second, message("user", "?")], tools)

    for prompt in (one, other):
        starts = [part.start_token for part in prompt.parts]
        assert starts[0] == 0
        assert all(a < b for a, b in pairwise(starts))
        assert starts[-1] < len(prompt.token_ids)
        assert prompt.parts[-1].label.endswith("reply")
    starts_one, starts_other = starts_of(one), starts_of(other)
    of_shared = range(len(shared) + 2)
    assert [n for n in of_shared if n in starts_one] == [n for n in of_shared if n in starts_other]
    # The first message that differs begins at the same place, too.
    for number in {*range(len(shared) + 3)} & starts_one.keys() & starts_other.keys():
        start = starts_one[number]
        assert start == starts_other[number]
        assert one.token_ids[:start] == other.token_ids[:start]


def starts_of(prompt: RenderedPrompt) -> dict[int, int]:
    """Where each message begins, 0 being what is before the first."""
    return {
        int(part.label.split()[1]) if part.label.startswith("message") else 0: part.start_token
        for part in prompt.parts
        if part.label != "reply"
    }


@settings(max_examples=100, deadline=None)
@given(system=TEXT, first=TEXT, second=TEXT, has_tools=st.booleans())
def test_what_agents_share_ends_at_the_same_token(
    bundled_chat: ModelChat, system: str, first: str, second: str, has_tools: bool
) -> None:
    tools = [TOOL] if has_tools else []
    one, other = (
        bundled_chat.render_chat([message("system", f"S{system}"), message("user", text)], tools)
        for text in (f"a{first}", f"b{second}")
    )
    end = one.parts[1].start_token
    assert one.parts[1] == other.parts[1] == PromptPart("message 1 (user)", end)
    assert one.token_ids[:end] == other.token_ids[:end]
    assert one.token_ids[end - 1] in bundled_chat.end_token_ids


def test_naming_the_parts_of_a_long_prompt_costs_next_to_nothing(
    bundled_chat: ModelChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "the quick brown fox jumps over the lazy dog and reads {}. ".format
    messages = [
        message(("user", "assistant")[number % 2], words(number) * 9) for number in range(101)
    ]

    assert len(bundled_chat.render_chat(messages).parts) == 103
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(40):
        has_outline = number % 2 == 0
        with monkeypatch.context() as patch:
            if not has_outline:
                patch.setattr("engine.models.chat.mark_turns", lambda turns: [])
                patch.setattr("engine.models.chat.Outline", NoOutline)
            began_s = time.thread_time()
            bundled_chat.render_chat(messages)
            seconds[has_outline].append(time.thread_time() - began_s)
    # Measured 4 %; the bound is for a busy machine, where 19 % were seen.
    assert min(seconds[True]) < 1.5 * min(seconds[False])


class NoOutline:
    def __init__(self, *_: object, **__: object) -> None:
        pass

    def parts_of(self, *_: object) -> tuple[PromptPart, ...]:
        return ()
