from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from tests.api.conftest import Serve, Served
from tests.api.word_engine import (
    MODEL_ID,
    NUM_CACHED_TOKENS,
    NUM_STORED_TOKENS,
    Script,
    prompt_text,
)

HELLO: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


def ask(served: Served, messages: list[Any], **fields: Any) -> str:
    """Sends messages; returns the prompt that reached the engine."""
    body = {"model": MODEL_ID, "max_tokens": 10, "messages": messages, **fields}
    reply = served.http.post("/v1/messages", json=body)
    assert reply.status_code == 200, reply.text
    return prompt_text(served.engine.requests[-1])


def test_sdk_gets_a_whole_message(served: Served) -> None:
    message = served.anthropic.messages.create(model=MODEL_ID, max_tokens=100, messages=HELLO)
    assert message.content[0].type == "text"
    assert message.content[0].text == "Paris is the capital."
    assert message.role == "assistant"
    assert message.model == MODEL_ID
    assert message.stop_reason == "end_turn"
    assert message.stop_sequence is None


def test_usage_splits_the_prompt_into_computed_and_cached(served: Served) -> None:
    message = served.anthropic.messages.create(model=MODEL_ID, max_tokens=100, messages=HELLO)
    num_prompt_tokens = len(served.engine.requests[0].prompt_token_ids)
    assert message.usage.cache_read_input_tokens == NUM_CACHED_TOKENS
    assert message.usage.cache_creation_input_tokens == NUM_STORED_TOKENS
    num_read = NUM_CACHED_TOKENS + NUM_STORED_TOKENS
    assert message.usage.input_tokens == num_prompt_tokens - num_read
    assert message.usage.output_tokens == 5


def test_sdk_streaming_helper_accumulates_the_message(served: Served) -> None:
    with served.anthropic.messages.stream(model=MODEL_ID, max_tokens=100, messages=HELLO) as stream:
        texts = list(stream.text_stream)
        message = stream.get_final_message()
    assert "".join(texts) == "Paris is the capital."
    assert message.content[0].type == "text"
    assert message.content[0].text == "Paris is the capital."
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 5
    assert message.usage.cache_read_input_tokens == NUM_CACHED_TOKENS


def test_stream_has_every_event_in_order(serve: Serve) -> None:
    served = serve(Script(step_s=0.05, prefill_s=0.05))
    body = {"model": MODEL_ID, "max_tokens": 2, "messages": HELLO, "stream": True}
    reply = served.http.post("/v1/messages", json=body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-stoker-model"] == MODEL_ID
    events = [event.split("\n") for event in reply.text.strip().split("\n\n")]
    assert [event[0] for event in events] == [
        "event: message_start",
        "event: ping",
        "event: content_block_start",
        "event: content_block_delta",
        "event: content_block_delta",
        "event: content_block_stop",
        "event: message_delta",
        "event: message_stop",
    ]
    bodies = [json.loads(event[1].removeprefix("data: ")) for event in events]
    assert all(
        f"event: {body['type']}" == event[0] for body, event in zip(bodies, events, strict=True)
    )
    assert bodies[0]["message"]["content"] == []
    assert bodies[0]["message"]["usage"]["cache_read_input_tokens"] == NUM_CACHED_TOKENS
    assert bodies[2]["content_block"] == {"type": "text", "text": ""}
    assert bodies[3]["delta"] == {"type": "text_delta", "text": "Paris"}
    assert bodies[6]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert bodies[6]["usage"]["output_tokens"] == 2


def test_stop_sequence_is_named(served: Served) -> None:
    message = served.anthropic.messages.create(
        model=MODEL_ID, max_tokens=100, messages=HELLO, stop_sequences=["never", "the"]
    )
    assert message.stop_reason == "stop_sequence"
    assert message.stop_sequence == "the"
    assert served.engine.requests[0].sampling.stop == ("never", "the")


def test_text_of_any_script_and_line_ends_survive_the_stream(serve: Serve) -> None:
    words = ("日本", "\n\nevent: x\n", "\u2028", "\x85", '"\\', "😀", "\x00")
    served = serve(Script(words=words))
    with served.anthropic.messages.stream(model=MODEL_ID, max_tokens=100, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "".join(words)


def test_max_tokens_is_clamped_to_what_fits(served: Served) -> None:
    served.anthropic.messages.create(model=MODEL_ID, max_tokens=10**9, messages=HELLO, timeout=9)
    request = served.engine.requests[0]
    assert request.sampling.max_tokens == 400_000 - len(request.prompt_token_ids)


def test_sampling_fields_reach_the_engine(served: Served) -> None:
    body = {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_tokens": 3}
    ask(served, HELLO, **body)
    sampling = served.engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 40)
    assert sampling.max_tokens == 3
    ask(served, HELLO)
    assert served.engine.requests[1].sampling.temperature == 0.0


def test_system_prompt_comes_first_without_the_billing_header(served: Served) -> None:
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cc_entrypoint=cli;"},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be kind."},
    ]
    assert ask(served, [{"role": "user", "content": "hi"}], system=system) == (
        "system: Be brief.\nBe kind.\nuser: hi\nassistant:"
    )


def test_a_string_and_one_text_block_are_the_same(served: Served) -> None:
    block = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    as_block = ask(served, [{"role": "user", "content": [block]}], system=[block])
    assert as_block == ask(served, [{"role": "user", "content": "hi"}], system="hi")


def test_system_messages_stay_in_place(served: Served) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "system", "content": [{"type": "text", "text": "Remember."}]},
    ]
    assert ask(served, messages) == "user: hi\nsystem: Remember.\nassistant:"


def test_tool_turns_become_calls_and_results(served: Served) -> None:
    messages = [
        {"role": "user", "content": "run"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "secret", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "xx"},
                {"type": "text", "text": "Running."},
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"z": 1, "a": "ü"}},
                {"type": "tool_use", "id": "t2", "name": "Read", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t2", "content": "two", "is_error": True},
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [
                        {"type": "text", "text": "one"},
                        {"type": "image", "source": {"type": "base64", "data": "x"}},
                    ],
                },
                {"type": "text", "text": "go on"},
            ],
        },
    ]
    tools = [
        {"name": "Bash", "description": "runs", "input_schema": {"type": "object", "b": 1, "a": 2}},
        {"type": "web_search_20250305", "name": "web_search"},
    ]
    assert ask(served, messages, tools=tools, tool_choice={"type": "auto"}).split("\n") == [
        'tool Bash {"a":2,"b":1,"type":"object"}',
        "user: run",
        'assistant: Running.<Bash {"a":"ü","z":1}><Read {}>',
        "tool: two",
        "tool: one",
        "[image left out: this model does not see images]",
        "user: go on",
        "assistant:",
    ]


def test_an_image_from_the_user_is_refused_in_words(served: Served) -> None:
    image: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": ""},
    }
    with pytest.raises(anthropic.BadRequestError, match="this model does not see images"):
        served.anthropic.messages.create(
            model=MODEL_ID,
            max_tokens=9,
            messages=[{"role": "user", "content": [image]}],
        )


def test_documents_of_plain_text_are_read(served: Served) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "It says so."}
    document = {"type": "document", "title": "Proof", "source": source}
    prompt = ask(served, [{"role": "user", "content": [document]}])
    assert prompt == "user: Proof\nIt says so.\nassistant:"


def test_search_results_are_read_wherever_they_stand(served: Served) -> None:
    found = {
        "type": "search_result",
        "title": "Oslo",
        "source": "https://example.org/oslo",
        "content": [{"type": "text", "text": "It snows."}, {"type": "text", "text": "Often."}],
    }
    said = "Oslo\nhttps://example.org/oslo\nIt snows.\nOften."
    call = {"type": "tool_use", "id": "t1", "name": "search", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [found]}
    messages = [
        {"role": "user", "content": [found]},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    assert (
        ask(served, messages) == f"user: {said}\nassistant: <search {{}}>\ntool: {said}\nassistant:"
    )


def test_count_tokens_equals_the_prompt_of_the_turn(served: Served) -> None:
    count = served.anthropic.messages.count_tokens(model=MODEL_ID, messages=HELLO, system="Hm")
    served.anthropic.messages.create(model=MODEL_ID, max_tokens=9, messages=HELLO, system="Hm")
    assert count.input_tokens == len(served.engine.requests[0].prompt_token_ids)


def test_an_over_long_prompt_has_the_wording_that_clients_parse(served: Served) -> None:
    messages = [{"role": "user", "content": "x" * 400_000}]
    body = {"model": MODEL_ID, "max_tokens": 10, "messages": messages}
    reply = served.http.post("/v1/messages", json=body)
    assert reply.status_code == 400
    assert reply.json()["type"] == "error"
    assert reply.json()["error"] == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 400017 tokens > 400000 maximum",
    }
    assert served.engine.requests == []
    count = served.http.post("/v1/messages/count_tokens", json=body)
    assert count.json() == {"input_tokens": 400_017}


def test_a_system_message_without_content_says_nothing(served: Served) -> None:
    """Claude Code 2.1.329 carries settings of a turn in one."""
    settings = {"role": "system", "content": [], "output_config": {"effort": "medium"}}
    replies = [
        served.http.post("/v1/messages", json={"max_tokens": 10, "messages": messages})
        for messages in ([*HELLO, settings], HELLO)
    ]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert prompt_text(served.engine.requests[0]) == prompt_text(served.engine.requests[1])
    alone = served.http.post("/v1/messages", json={"max_tokens": 10, "messages": [settings]})
    assert alone.status_code == 400
