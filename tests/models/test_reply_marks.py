"""What a model writes around calls and reasoning is found by trying, special tokens or not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.api.reply import Block, CallBlock, ReasoningBlock, TextBlock, blocks_of
from engine.messages import Message, Role, ToolCall, ToolChoice, ToolSpec
from engine.models.chat import ModelChat
from tests.models.conftest import MakeChat

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}"
FRAME = (
    "{%% if tools %%}<|im_start|>system\n{%% for t in tools %%}{{ t | tojson }}{%% endfor %%}"
    "<|im_end|>\n{%% endif %%}"
    "{%% for m in messages %%}" + TURN + "{%% for call in m.tool_calls or [] %%}"
    "{%% set c = call.function %%}%s{%% endfor %%}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n%s{%% endif %%}"
)
HERMES = (
    '\n<tool_call>\n{"name": "{{ c.name }}", "arguments": {{ c.arguments | tojson }}}\n</tool_call>'
)
CODER = (
    "\n<tool_call>\n<function={{ c.name }}>\n{% for k, v in c.arguments.items() %}"
    "<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}</function>\n</tool_call>"
)
MISTRAL = '[TOOL_CALLS][{"name": "{{ c.name }}", "arguments": {{ c.arguments | tojson }}}]'
MISTRAL_HEADER = "[TOOL_CALLS]{{ c.name }}[ARGS]{{ c.arguments | tojson }}"
GEMMA = (
    "<|tool_call>call:{{ c.name }}{{ '{' }}{% for k, v in c.arguments.items() %}"
    "{{ k }}:<|\"|>{{ v }}<|\"|>{% endfor %}{{ '}' }}<tool_call|>"
)
LFM = (
    "<|tool_call_start|>[{{ c.name }}({% for k, v in c.arguments.items() %}"
    '{{ k }}="{{ v }}"{% endfor %})]<|tool_call_end|>'
)
KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.{{ c.name }}:0"
    "<|tool_call_argument_begin|>{{ c.arguments | tojson }}"
    "<|tool_call_end|><|tool_calls_section_end|>"
)
LLAMA = '{"name": "{{ c.name }}", "parameters": {{ c.arguments | tojson }}}'
DEEPSEEK_OLD = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ c.name }}\n```json\n"
    "{{ c.arguments | tojson }}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
DEEPSEEK = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{ c.name }}<｜tool▁sep｜>"
    "{{ c.arguments | tojson }}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
DEEPSEEK_MARKS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)
UNKNOWN = "CALL {{ c.name }}{% for k, v in c.arguments.items() %} {{ k }}={{ v }}{% endfor %}"

FAMILIES = {
    "hermes": (HERMES, ()),
    "hermes with special marks": (HERMES, ("<tool_call>", "</tool_call>")),
    "coder": (CODER, ("<tool_call>", "</tool_call>")),
    "mistral": (MISTRAL, ("[TOOL_CALLS]",)),
    "mistral with headers": (MISTRAL_HEADER, ("[TOOL_CALLS]", "[ARGS]")),
    "gemma": (GEMMA, ("<|tool_call>", "<tool_call|>", '<|"|>')),
    "lfm": (LFM, ("<|tool_call_start|>", "<|tool_call_end|>")),
    "kimi": (
        KIMI,
        (
            "<|tool_calls_section_begin|>",
            "<|tool_call_begin|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "<|tool_calls_section_end|>",
        ),
    ),
    "llama": (LLAMA, ()),
    "deepseek with fences": (DEEPSEEK_OLD, DEEPSEEK_MARKS),
    "deepseek": (DEEPSEEK, DEEPSEEK_MARKS),
}
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather of a city",
    parameters_json='{"type":"object","properties":{"city":{"type":"string"}}}',
)
QUESTION = Message(role=Role.USER, text="How is the weather in Oslo?")
CALL = ToolCall(call_id="toolu_1", name="get_weather", arguments_json='{"city":"Oslo"}')
RESULT = Message(role=Role.TOOL, text="Snow.", tool_call_id="toolu_1")
THINK = ("<think>", "</think>")
EVERYTHING = pytest.mark.parametrize("family", FAMILIES)


def chat_of(make_chat: MakeChat, family: str, opening: str = "") -> ModelChat:
    call, special = FAMILIES[family]
    return make_chat(FRAME % (call, opening), *special)


def prompt(chat: ModelChat, *messages: Message) -> tuple[int, ...]:
    return chat.render_chat(messages, [WEATHER]).token_ids


def generated(chat: ModelChat, text: str = "") -> tuple[int, ...]:
    """A call as the model writes it: as its template does, special tokens included."""
    called = Message(role=Role.ASSISTANT, text=text, tool_calls=(CALL,))
    before = chat.spell(prompt(chat, QUESTION)).removesuffix("<think>\n")
    after = chat.spell(prompt(chat, QUESTION, called, RESULT)).removeprefix(before)
    return tuple(chat._codec.encode(after.partition("<|im_end|>")[0]))


def read(chat: ModelChat, tokens: Sequence[int], *, opens: bool = False) -> tuple[Block, ...]:
    detokenizer = chat.detokenizer()
    reader = chat.reply_reader([WEATHER], ToolChoice(), opens_reasoning=opens)
    shown = [*map(detokenizer.add, tokens), detokenizer.flush()]
    return blocks_of([piece for text in shown for piece in reader.feed(text)] + reader.finish())


@EVERYTHING
def test_a_call_in_the_models_own_form_is_a_call(make_chat: MakeChat, family: str) -> None:
    chat = chat_of(make_chat, family)
    text, call = read(chat, generated(chat, "Let me see."))
    assert text == TextBlock("Let me see.")
    assert isinstance(call, CallBlock)
    assert (call.name, call.arguments_json) == ("get_weather", '{"city": "Oslo"}')


@EVERYTHING
def test_a_call_that_comes_back_stands_for_its_tokens(make_chat: MakeChat, family: str) -> None:
    chat = chat_of(make_chat, family)
    special = set(FAMILIES[family][1])
    written = [
        (token,) if (text := chat.spell([token])) in special else spelled(chat, text)
        for token in generated(chat)
    ]
    odd = tuple(token for tokens in written for token in tokens)
    first = prompt(chat, QUESTION)
    called = Message(role=Role.ASSISTANT, text="Let me see.", tool_calls=(CALL,))
    said = (*chat.encode_text("\n Let me see."), *odd)
    assert prompt(chat, QUESTION, called, RESULT)[: len(first) + len(said)] != first + said
    chat.remember_reply(first, said)
    assert prompt(chat, QUESTION, called, RESULT)[: len(first) + len(said)] == first + said


def spelled(chat: ModelChat, text: str) -> tuple[int, ...]:
    return tuple(token for letter in text for token in chat.encode_text(letter))


@EVERYTHING
def test_marks_that_a_client_writes_are_no_special_tokens(make_chat: MakeChat, family: str) -> None:
    chat = chat_of(make_chat, family)
    said = "".join(FAMILIES[family][1])
    asked = Message(role=Role.USER, text=said)
    replied = Message(role=Role.ASSISTANT, text=f"Hm {said}")
    usual = [chat.spell([token]) for token in prompt(chat, QUESTION, QUESTION)]
    marked = [chat.spell([token]) for token in prompt(chat, asked, replied, QUESTION)]
    for mark in FAMILIES[family][1]:
        assert marked.count(mark) == usual.count(mark)


def test_calls_of_a_family_that_is_not_known_are_text(make_chat: MakeChat) -> None:
    chat = make_chat(FRAME % (UNKNOWN, ""))
    assert read(chat, generated(chat)) == (TextBlock("CALL get_weather city=Oslo"),)


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
@pytest.mark.parametrize("opening", ["", "<think>\n"])
def test_a_reply_that_comes_back_without_its_reasoning_stands_for_all_its_tokens(
    make_chat: MakeChat, opening: str, special: tuple[str, ...]
) -> None:
    chat = make_chat(FRAME % (HERMES, opening) + "{# <think> </think> #}", *special)
    rendered = chat.render_chat([QUESTION], [WEATHER])
    assert rendered.opens_reasoning == bool(opening)
    marks = [chat._codec.encode(mark) for mark in THINK]
    said = (
        *(() if opening else marks[0]),
        *spelled(chat, "\nHm, snow?\n"),
        *marks[1],
        *spelled(chat, "\n\nLet me see."),
        *generated(chat),
    )
    thought, text, call = read(chat, said, opens=rendered.opens_reasoning)
    assert (thought, text) == (ReasoningBlock("Hm, snow?"), TextBlock("Let me see."))
    assert isinstance(call, CallBlock)

    chat.remember_reply(rendered.token_ids, said)
    called = Message(role=Role.ASSISTANT, text="Let me see.", tool_calls=(CALL,))
    second = prompt(chat, QUESTION, called, RESULT)
    whole = rendered.token_ids + said
    assert second[: len(whole)] == whole
    assert second[len(whole)] in chat.end_token_ids


def test_a_reply_that_goes_on_is_not_inside_reasoning(make_chat: MakeChat) -> None:
    chat = make_chat(FRAME % (HERMES, "<think>\n") + "{# </think> #}")
    begun = Message(role=Role.ASSISTANT, text="The capital is")
    rendered = chat.render_chat([QUESTION, begun])
    assert not rendered.opens_reasoning
    assert chat.spell(rendered.token_ids).endswith("assistant\nThe capital is")
