"""Responses as the official SDK reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import ResponseCompletedEvent, ResponseFunctionToolCall
from pydantic import BaseModel

from app.api.settings import ApiSettings
from engine.errors import EngineFailedError, PoolExhaustedError, QueueFullError, StokerError
from engine.messages import ToolChoice, ToolUse
from tests.api.byte_chat_format import ByteChatFormat
from tests.api.conftest import Serve, Served
from tests.api.word_engine import (
    MODEL_ID,
    NUM_CACHED_TOKENS,
    NUM_STORED_TOKENS,
    Script,
    prompt_text,
)

ROUTE = "/v1/responses"
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: list[Any] = [
    {"type": "function", "name": "get_weather", "parameters": CITY},
    {
        "type": "namespace",
        "name": "crew",
        "description": "Others who help.",
        "tools": [{"type": "function", "name": "ask", "description": "Asks.", "parameters": CITY}],
    },
    {"type": "web_search", "external_web_access": False},
]
TWO_CALLS = Script(
    words=(
        "Let me see.\n",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
        '\n<tool_call>\n{"name": "crew.ask", "arguments": {"city": "Rome"}}\n</tool_call>',
    )
)
THOUGHT = Script(words=("<think>", "It is", " easy.", "</think>", "\n\nPar", "is."))


def events_of(served: Served, **fields: Any) -> list[dict[str, Any]]:
    reply = served.http.post(ROUTE, json={"model": "", "input": "hi", "stream": True, **fields})
    assert reply.status_code == 200, reply.text
    events = []
    for block in reply.text.split("\n\n")[:-1]:
        head, data = block.split("\n")
        event: dict[str, Any] = json.loads(data.removeprefix("data: "))
        assert head == f"event: {event['type']}"
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def test_sdk_gets_a_whole_response(served: Served) -> None:
    response = served.openai.responses.create(
        model=MODEL_ID,
        input="What is the capital of France?",
        instructions="Be brief.",
        max_output_tokens=50,
        metadata={"a": "b"},
        temperature=0.5,
    )
    assert response.output_text == "Paris is the capital."
    assert response.status == "completed"
    assert response.id.startswith("resp_")
    assert (response.instructions, response.max_output_tokens) == ("Be brief.", 50)
    assert (response.metadata, response.temperature) == ({"a": "b"}, 0.5)
    assert response.model == MODEL_ID
    assert prompt_text(served.engine.requests[0]).split("\n") == [
        "system: Be brief.",
        "user: What is the capital of France?",
        "assistant:",
    ]
    usage = response.usage
    assert usage is not None
    assert usage.input_tokens == len(served.engine.requests[0].prompt_token_ids)
    assert usage.input_tokens_details.cached_tokens == NUM_CACHED_TOKENS
    assert usage.input_tokens_details.cache_write_tokens == NUM_STORED_TOKENS
    assert usage.output_tokens == 5
    assert usage.output_tokens_details.reasoning_tokens == 0
    assert usage.total_tokens == usage.input_tokens + 5


def test_sdk_streaming_helper(served: Served) -> None:
    with served.openai.responses.stream(model=MODEL_ID, input="hi") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == "Paris is the capital."
    assert isinstance(events[-1], ResponseCompletedEvent)
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == "Paris is the capital."


def test_sdk_streaming_helper_reads_calls(served: Served) -> None:
    served.engine.script = TWO_CALLS
    with served.openai.responses.stream(model=MODEL_ID, input="hi", tools=TOOLS) as stream:
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["message", "function_call", "function_call"]
    assert final.output_text == "Let me see."
    calls = [item for item in final.output if isinstance(item, ResponseFunctionToolCall)]
    assert [(c.namespace, c.name, json.loads(c.arguments)) for c in calls] == [
        (None, "get_weather", {"city": "Oslo"}),
        ("crew", "ask", {"city": "Rome"}),
    ]
    assert all(call.call_id.startswith("call_") for call in calls)


@pytest.mark.parametrize("script", [Script(), TWO_CALLS, THOUGHT])
def test_a_stream_and_a_whole_response_are_the_same(served: Served, script: Script) -> None:
    served.engine.script = script
    streamed = events_of(served, tools=TOOLS)[-1]["response"]
    body = {"model": "", "input": "hi", "tools": TOOLS}
    whole = served.http.post(ROUTE, json=body).json()

    def without_ids(response: dict[str, Any]) -> dict[str, Any]:
        output = [item | {"id": "", "call_id": ""} for item in response["output"]]
        return response | {"id": "", "created_at": 0, "completed_at": 0, "output": output}

    assert without_ids(streamed) == without_ids(whole)


def test_every_item_is_opened_told_and_closed(served: Served) -> None:
    served.engine.script = THOUGHT
    events = events_of(served)
    final = events[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
    assert final["output"][0]["content"] == [{"type": "reasoning_text", "text": "It is easy."}]
    assert final["usage"]["output_tokens_details"] == {"reasoning_tokens": len("It is easy.")}
    for index, item in enumerate(final["output"]):
        own = [event for event in events if event.get("output_index") == index]
        assert own[0]["type"] == "response.output_item.added"
        assert own[1]["type"] == "response.content_part.added"
        assert own[-2]["type"] == "response.content_part.done"
        assert own[-1] == own[-1] | {"type": "response.output_item.done", "item": item}
        assert {e["item_id"] for e in own if "item_id" in e} == {item["id"]}


def test_what_the_vendors_servers_would_run_is_not_offered(served: Served) -> None:
    served.http.post(ROUTE, json={"model": "", "input": "hi", "tools": TOOLS})
    lines = prompt_text(served.engine.requests[0]).split("\n")
    assert [line.split(" ")[1] for line in lines if line.startswith("tool ")] == [
        "get_weather",
        "crew.ask",
    ]


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_that_was_cut_is_incomplete(served: Served, stream: bool) -> None:
    fields = {"max_output_tokens": 2}
    if stream:
        last = events_of(served, **fields)[-1]
        assert last["type"] == "response.incomplete"
        response = last["response"]
    else:
        response = served.http.post(ROUTE, json={"model": "", "input": "hi", **fields}).json()
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["output"][0]["content"][0]["text"] == "Paris is"


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        (Script(fail_at=2, error=EngineFailedError("NaN in logits")), "server_error", "NaN"),
        (Script(fail_at=2, error=PoolExhaustedError("no room", 3)), "server_overloaded", "no room"),
        (Script(abort_at=2), "invalid_prompt", "aborted at the server"),
    ],
)
def test_a_failure_in_mid_stream_is_told_twice(
    served: Served, script: Script, code: str, message: str
) -> None:
    served.engine.script = script
    *_, told, failed = events_of(served)
    assert told["type"] == "error"
    assert message in told["message"]
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": code, "message": told["message"]}


@pytest.mark.parametrize(
    ("error", "status"), [(QueueFullError("full", 2.0), 429), (EngineFailedError("dead"), 500)]
)
def test_a_refusal_is_a_status(served: Served, error: StokerError, status: int) -> None:
    served.engine.script = Script(refuse=error)
    for stream in (True, False):
        reply = served.http.post(ROUTE, json={"model": "", "input": "hi", "stream": stream})
        assert reply.status_code == status
        assert reply.json()["error"]["message"] == str(error)


@pytest.mark.parametrize("script", [Script(queue_s=0.45), Script(prefill_s=0.45)])
def test_silence_is_filled_with_events_and_the_sdk_reads_over_them(
    serve: Serve, script: Script
) -> None:
    served = serve(script, ApiSettings(port=0, ping_s=0.1))
    kinds = [event["type"] for event in events_of(served)]
    assert kinds[0] == "response.created"
    assert kinds.count("response.created") == 1
    assert kinds.count("response.in_progress") >= 3
    with served.openai.responses.stream(model=MODEL_ID, input="hi") as stream:
        assert stream.get_final_response().output_text == "Paris is the capital."


def test_every_kind_of_item_has_its_place(served: Served) -> None:
    items = [
        {"role": "developer", "content": "Rules."},
        {"role": "user", "content": [{"type": "input_text", "text": t} for t in ("a", "b")]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"role": "assistant", "content": [{"type": "output_text", "text": t} for t in ("c", "d")]},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"x":1}'},
        {
            "type": "function_call",
            "call_id": "c2",
            "namespace": "crew",
            "name": "ask",
            "arguments": "{}",
        },
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"role": "assistant", "content": "after the calls"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [
                {"type": "input_text", "text": "yes"},
                {"type": "input_image", "image_url": "data:,"},
            ],
        },
    ]
    reply = served.http.post(ROUTE, json={"model": "", "input": items, "tools": TOOLS})
    assert reply.status_code == 200, reply.text
    assert prompt_text(served.engine.requests[0]).split("\n")[2:] == [
        "system: Rules.",
        "user: a",
        "b",
        "assistant: cd",
        'after the calls<get_weather {"x":1}><crew.ask {}>',
        "tool: sunny",
        "tool: yes",
        "[image left out: this model does not see images]",
        "assistant:",
    ]


class Capital(BaseModel):
    name: str


def test_the_sdk_parses_a_reply_of_a_schema(served: Served) -> None:
    served.engine.script = Script(words=('{"name"', ': "Paris"}'))
    response = served.openai.responses.parse(model=MODEL_ID, input="hi", text_format=Capital)
    assert response.output_parsed == Capital(name="Paris")
    assert isinstance(served.engine.chat_format, ByteChatFormat)
    (wish,) = served.engine.chat_format.wishes
    assert wish[1] is not None
    assert json.loads(wish[1])["required"] == ["name"]


@pytest.mark.parametrize(
    ("choice", "wish"),
    [
        ("none", ToolChoice(use=ToolUse.NONE)),
        ("required", ToolChoice(use=ToolUse.REQUIRED)),
        (
            {"type": "function", "name": "get_weather"},
            ToolChoice(use=ToolUse.REQUIRED, names=("get_weather",)),
        ),
        (
            {"type": "function", "namespace": "crew", "name": "ask"},
            ToolChoice(use=ToolUse.REQUIRED, names=("crew.ask",)),
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [
                    {"type": "mcp", "server_label": "elsewhere"},
                    {"type": "function", "name": "get_weather"},
                    {"type": "function", "namespace": "crew", "name": "ask"},
                ],
            },
            ToolChoice(use=ToolUse.REQUIRED, names=("get_weather", "crew.ask")),
        ),
    ],
)
def test_what_is_asked_of_tools_reaches_the_grammar(
    served: Served, choice: Any, wish: ToolChoice
) -> None:
    body = {"model": "", "input": "hi", "tools": TOOLS, "tool_choice": choice}
    assert served.http.post(ROUTE, json=body).status_code == 200
    assert isinstance(served.engine.chat_format, ByteChatFormat)
    assert served.engine.chat_format.wishes == [(wish, None, False)]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input.0"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input.0.content.0.type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input.0.content.0.type",
        ),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input.0.type"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input.0.call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "x"}]}, "input.0.output"),
        ({"input": [{"type": "item_reference", "id": "msg_nix"}]}, "input.0.id"),
        ({"instructions": 5}, "instructions"),
        ({"tools": [{"type": "namespace", "tools": []}]}, "tools.0.name"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tools": [*TOOLS, {"type": "function", "name": "crew.ask"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 9}, "temperature"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"store": "yes"}, "store"),
        ({"include": [5]}, "include.0"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.mode"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice.tools"),
    ],
)
def test_wrong_fields_are_named(served: Served, fields: dict[str, Any], name: str) -> None:
    reply = served.http.post(ROUTE, json={"model": "", "input": "hi", **fields})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["message"].startswith(name), error
    assert error["type"] == "invalid_request_error"
    assert served.engine.requests == []
