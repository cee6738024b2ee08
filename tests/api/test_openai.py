from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, NUM_CACHED_TOKENS, prompt_text

HELLO: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


def test_sdk_gets_a_whole_completion(served: Served) -> None:
    completion = served.openai.chat.completions.create(model=MODEL_ID, messages=HELLO)
    choice = completion.choices[0]
    assert choice.message.content == "Paris is the capital."
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert completion.model == MODEL_ID
    assert completion.object == "chat.completion"
    assert completion.system_fingerprint
    usage = completion.usage
    assert usage is not None
    assert usage.prompt_tokens == len(served.engine.requests[0].prompt_token_ids)
    assert usage.completion_tokens == 5
    assert usage.total_tokens == usage.prompt_tokens + 5
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == NUM_CACHED_TOKENS


def test_sdk_stream_with_usage(served: Served) -> None:
    chunks = list(
        served.openai.chat.completions.create(
            model=MODEL_ID, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Paris is the capital."
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == NUM_CACHED_TOKENS
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_sdk_streaming_helper(served: Served) -> None:
    with served.openai.chat.completions.stream(model=MODEL_ID, messages=HELLO) as stream:
        final = stream.until_done().get_final_completion()
    assert final.choices[0].message.content == "Paris is the capital."


def test_stream_ends_with_done_and_no_usage_unless_asked(served: Served) -> None:
    body = {"model": MODEL_ID, "messages": HELLO, "stream": True}
    reply = served.http.post("/v1/chat/completions", json=body)
    assert reply.text.endswith("data: [DONE]\n\n")
    assert "usage" not in reply.text
    assert "event:" not in reply.text


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_ends_with_length(served: Served, field: str) -> None:
    body = {"model": MODEL_ID, "messages": HELLO, field: 2}
    reply = served.http.post("/v1/chat/completions", json=body).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["choices"][0]["message"]["content"] == "Paris is"


@pytest.mark.parametrize("stop", ["the", ["never", "the"]])
def test_stop_is_a_string_or_a_list(served: Served, stop: str | list[str]) -> None:
    completion = served.openai.chat.completions.create(model=MODEL_ID, messages=HELLO, stop=stop)
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].message.content == "Paris is"


def test_sampling_fields_reach_the_engine(served: Served) -> None:
    body = {
        "model": MODEL_ID,
        "messages": HELLO,
        "temperature": 0.7,
        "top_p": 0.8,
        "seed": -3,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.2,
        "top_k": -1,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "n": 1,
        "some_field_of_tomorrow": {"x": []},
    }
    assert served.http.post("/v1/chat/completions", json=body).status_code == 200
    sampling = served.engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.min_p) == (0.7, 0.8, 0.05)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.1, -0.2)
    assert sampling.repetition_penalty == 1.1
    assert sampling.top_k == 0
    assert sampling.seed is not None
    assert sampling.seed >= 0


def test_every_role_reaches_the_prompt(served: Served) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_x", "arguments": '{"a":1}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "system",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        },
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "X"},
    ]
    tools = [
        {"type": "function", "function": {"name": "get_x", "parameters": {"type": "object"}}},
        {"type": "web_search"},
    ]
    body = {"model": MODEL_ID, "messages": messages, "tools": tools, "tool_choice": "auto"}
    assert served.http.post("/v1/chat/completions", json=body).status_code == 200
    assert prompt_text(served.engine.requests[0]).split("\n") == [
        'tool get_x {"type":"object"}',
        "system: Be brief.",
        "system: a",
        "b",
        "user: hi",
        'assistant: <get_x {"a":1}>',
        "tool: X",
        "assistant:",
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0.type",
        ),
    ],
)
def test_what_is_not_offered_is_refused_by_name(
    served: Served, fields: dict[str, Any], param: str
) -> None:
    body = {"model": MODEL_ID, "messages": HELLO, **fields}
    reply = served.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_an_over_long_prompt_has_the_code_that_clients_look_for(served: Served) -> None:
    messages: list[Any] = [{"role": "user", "content": "x" * 400_000}]
    with pytest.raises(openai.BadRequestError) as caught:
        served.openai.chat.completions.create(model=MODEL_ID, messages=messages)
    assert caught.value.code == "context_length_exceeded"
