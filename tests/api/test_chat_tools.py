"""Chat completions with tools, reasoning, forms and probabilities, as the SDK reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from engine.constraint import Constraint
from engine.messages import ToolChoice, ToolUse
from tests.api.byte_chat_format import ByteChatFormat
from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, Script, prompt_text

ROUTE = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "What is the weather in Oslo and Rome?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("get_weather", "get_time")
]
TWO_CALLS = Script(
    words=(
        "Let me",
        " see.\n",
        '<tool_call>\n{"name": "get_weather", ',
        '"arguments": {"city": "Oslo"}}\n</tool_call>',
        '\n<tool_call>\n{"name": "get_time", "arguments": {"city": "Rome"}}\n</tool_call>',
    )
)
THOUGHT = Script(words=("<think>", "It is", " easy.", "</think>", "\n\nPar", "is."))


def test_calls_and_text(served: Served) -> None:
    served.engine.script = TWO_CALLS
    completion = served.openai.chat.completions.create(model=MODEL_ID, messages=HELLO, tools=TOOLS)
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    assert choice.message.tool_calls is not None
    calls = [call for call in choice.message.tool_calls if call.type == "function"]
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "Oslo"}),
        ("get_time", {"city": "Rome"}),
    ]
    assert all(call.id.startswith("call_") for call in calls)
    assert calls[0].id != calls[1].id


def test_streamed_calls_have_their_name_and_id_once(served: Served) -> None:
    served.engine.script = TWO_CALLS
    with served.openai.chat.completions.stream(
        model=MODEL_ID, messages=HELLO, tools=TOOLS
    ) as stream:
        final = stream.until_done().get_final_completion()
    choice = final.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    calls = choice.message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Oslo", "Rome"]
    assert len({call.id for call in calls}) == 2


def test_a_reply_of_calls_alone_has_no_content(served: Served) -> None:
    served.engine.script = Script(words=TWO_CALLS.words[2:4])
    body = {"model": "", "messages": HELLO, "tools": TOOLS}
    message = served.http.post(ROUTE, json=body).json()["choices"][0]["message"]
    assert message["content"] is None
    assert len(message["tool_calls"]) == 1


def test_half_a_call_is_text(served: Served) -> None:
    served.engine.script = TWO_CALLS
    body = {"model": "", "messages": HELLO, "tools": TOOLS, "max_tokens": 3}
    for stream in (True, False):
        reply = served.http.post(ROUTE, json=body | {"stream": stream})
        assert "tool_calls" not in reply.text
        assert '"finish_reason":"length"' in reply.text


@pytest.mark.parametrize("stream", [True, False])
def test_what_was_thought_aloud_is_apart(served: Served, stream: bool) -> None:
    served.engine.script = THOUGHT
    body = {
        "model": "",
        "messages": HELLO,
        "stream": stream,
        "stream_options": {"include_usage": True},
    }
    reply = served.http.post(ROUTE, json=body)
    if stream:
        chunks = [json.loads(line[6:]) for line in reply.text.split("\n") if '"id"' in line]
        deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
        text = "".join(delta.get("content") or "" for delta in deltas)
        reasoning = "".join(delta.get("reasoning_content") or "" for delta in deltas)
        usage = chunks[-1]["usage"]
    else:
        message = reply.json()["choices"][0]["message"]
        text, reasoning = message["content"], message["reasoning_content"]
        usage = reply.json()["usage"]
    assert text == "Paris."
    assert reasoning == "It is easy."
    # One token per byte is what this engine's tokenizer makes of a text.
    assert usage["completion_tokens_details"] == {"reasoning_tokens": len("It is easy.")}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools"),
        (allowed("none", "get_time"), "tool_choice.allowed_tools.mode"),
        (allowed("required"), "tool_choice.allowed_tools.tools"),
        (allowed("auto", "get_rich"), "tool_choice"),
    ],
)
def test_a_wrong_choice_among_tools_is_named(served: Served, choice: Any, name: str) -> None:
    body = {"model": "", "messages": HELLO, "tools": TOOLS, "tool_choice": choice}
    reply = served.http.post(ROUTE, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(f"{name}: ")


def test_only_allowed_tools_are_called(served: Served) -> None:
    """All are in the prompt, so that it is the same one whatever is allowed."""
    served.engine.script = TWO_CALLS
    choice: Any = allowed("auto", "get_time")
    completion = served.openai.chat.completions.create(
        model=MODEL_ID, messages=HELLO, tools=TOOLS, tool_choice=choice
    )
    (call,) = completion.choices[0].message.tool_calls or []
    assert (call.type, completion.choices[0].finish_reason) == ("function", "tool_calls")
    assert "get_weather" in (completion.choices[0].message.content or "")
    asked = prompt_text(served.engine.requests[0])
    assert "tool get_weather" in asked
    assert "tool get_time" in asked


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": "none"}, ToolChoice(use=ToolUse.NONE)),
        ({"tool_choice": "required"}, ToolChoice(use=ToolUse.REQUIRED)),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_time"}}},
            ToolChoice(use=ToolUse.REQUIRED, names=("get_time",)),
        ),
        ({"parallel_tool_calls": False}, ToolChoice(is_parallel=False)),
        ({"tool_choice": allowed("auto", "get_time")}, ToolChoice(names=("get_time",))),
        (
            {"tool_choice": allowed("required", "get_time", "get_weather", "get_time")},
            ToolChoice(use=ToolUse.REQUIRED, names=("get_time", "get_weather")),
        ),
        ({"tool_choice": allowed("auto")}, ToolChoice(use=ToolUse.NONE)),
    ],
)
def test_what_is_asked_of_tools_reaches_the_grammar(
    served: Served, fields: dict[str, Any], choice: ToolChoice
) -> None:
    body = {"model": "", "messages": HELLO, "tools": TOOLS, **fields}
    assert served.http.post(ROUTE, json=body).status_code == 200
    assert isinstance(served.engine.chat_format, ByteChatFormat)
    assert served.engine.chat_format.wishes == [(choice, None, False)]


def test_forms_reach_the_grammar_in_the_clients_order(served: Served) -> None:
    schema = {"type": "object", "properties": {"zebra": {}, "ape": {}}}
    forms: list[dict[str, Any]] = [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        {"type": "json_object", "schema": schema},
    ]
    for form in forms:
        body = {"model": "", "messages": HELLO, "response_format": form}
        assert served.http.post(ROUTE, json=body).status_code == 200
    assert isinstance(served.engine.chat_format, ByteChatFormat)
    free, any_object, with_schema, beside = served.engine.chat_format.wishes
    assert free[1:] == (None, False)
    assert any_object[1:] == (None, True)
    assert with_schema[1:] == beside[1:] == (json.dumps(schema), False)


class Capital(BaseModel):
    name: str


def test_the_sdk_parses_a_reply_of_a_schema(served: Served) -> None:
    served.engine.script = Script(words=('{"name"', ': "Paris"}'))
    completion = served.openai.chat.completions.parse(
        model=MODEL_ID, messages=HELLO, response_format=Capital
    )
    assert completion.choices[0].message.parsed == Capital(name="Paris")


def test_how_likely_tokens_were(served: Served) -> None:
    completion = served.openai.chat.completions.create(
        model=MODEL_ID, messages=HELLO, logprobs=True, top_logprobs=2, max_tokens=2
    )
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert [row.token for row in logprobs.content or []] == ["Paris", " is"]
    first = (logprobs.content or [])[0]
    assert (first.logprob, first.bytes) == (-0.25, list(b"Paris"))
    assert [top.token for top in first.top_logprobs] == ["Paris", "PARIS"]
    assert served.engine.requests[0].sampling.num_logprobs == 2


def test_streamed_probabilities_are_those_of_all_tokens(served: Served) -> None:
    served.engine.script = TWO_CALLS
    with served.openai.chat.completions.stream(
        model=MODEL_ID, messages=HELLO, tools=TOOLS, logprobs=True
    ) as stream:
        final = stream.until_done().get_final_completion()
    logprobs = final.choices[0].logprobs
    assert logprobs is not None
    assert [row.token for row in logprobs.content or []] == list(TWO_CALLS.words)
    assert all(row.top_logprobs == [] for row in logprobs.content or [])


def test_biases_reach_the_engine(served: Served) -> None:
    body = {"model": "", "messages": HELLO, "logit_bias": {"5": -100, "17": 2.5}}
    assert served.http.post(ROUTE, json=body).status_code == 200
    assert served.engine.requests[0].sampling.logit_bias == ((5, -100.0), (17, 2.5))


def test_what_is_not_enforced_is_said(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    gaps = ("the schema of tool 'a\x1b': these keywords are not enforced: not", "another")
    assert isinstance(served.engine.chat_format, ByteChatFormat)
    served.engine.chat_format.constraint = Constraint(grammar="", gaps=gaps)
    body = {"model": "", "messages": HELLO, "tools": TOOLS}
    for _ in range(2):
        assert served.http.post(ROUTE, json=body).status_code == 200
    assert served.engine.wait_for(lambda: len(served.engine.running) == 0)
    # On the screen once, in the log with every request.
    told = [(note.kind, note.level, note.text) for note in served.engine.notes]
    assert told == [
        ("schema", "warning", "the schema of tool 'a\\x1b': these keywords are not enforced: not"),
        ("schema", "warning", "another"),
    ]
    line = "gaps=2 first_gap=\"the schema of tool 'a"
    assert served.engine.wait_for(lambda: caplog.text.count(line) == 2)
