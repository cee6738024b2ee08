"""Requests that are wrong, odd or hostile, and which routes refuse them."""

from __future__ import annotations

import json
from typing import Any

USER = {"role": "user", "content": "hi"}
TURNS: dict[str, dict[str, Any]] = {
    "/v1/messages": {"messages": [USER], "max_tokens": 9},
    "/v1/chat/completions": {"messages": [USER]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "spaces": b" " * 100_000,
    "no object": b"[]",
    "null": b"null",
    "no utf-8": b'{"a": "\xff\xfe"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "NaN": b'{"temperature": NaN}',
    "infinity": b'{"temperature": -Infinity}',
    "lone surrogate": b'{"content": "\\udfff"}',
    "deep list": b'{"content": ' + b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "two values": b'{"a": 1}{"a": 2}',
    "many digits": b'{"max_tokens": ' + b"9" * 100_000 + b"}",
    "many fields": json.dumps({str(n): n for n in range(100_000)}).encode(),
    "same field": b'{"messages": [], "messages": 5, "prompt": 5, "input": 5, "content": 5}',
    "nul": b"\x00",
}

RECURSIVE: dict[str, Any] = {
    "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    "$ref": "#/$defs/a",
}
DEEP: dict[str, Any] = {}
for _ in range(100):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
HOSTILE = {"type": "string", "pattern": "^(a+)+$|((a*)*)*b" + "(x?){1000}" * 20}


def _function(schema: Any) -> dict[str, Any]:
    function = {"name": "f", "parameters": schema}
    tool = {"type": "function", "function": function, "name": "f", "parameters": schema}
    return {"tools": [tool], "tool_choice": "required"}


def _schema(schema: Any) -> dict[str, Any]:
    named = {"name": "s", "schema": schema, "strict": True}
    return {
        "response_format": {"type": "json_schema", "json_schema": named},
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
        "text": {"format": {"type": "json_schema", **named}},
    }


def _call(call_id: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    return {"id": call_id, "type": "function", "function": function}


FIELDS: dict[str, dict[str, Any]] = {
    "n huge": {"n": 10**9},
    "n negative": {"n": -1},
    "n text": {"n": "2"},
    "best_of huge": {"best_of": 10**12},
    "top_k huge": {"top_k": 10**18},
    "top_k negative": {"top_k": -(10**18)},
    "logprobs huge": {"logprobs": 10**9, "top_logprobs": 10**9},
    "logprobs text": {"logprobs": "all"},
    "top_logprobs alone": {"top_logprobs": 5},
    "stop many": {"stop": ["x"] * 10_000, "stop_sequences": ["x"] * 10_000},
    "stop long": {"stop": "x" * 1_000_000, "stop_sequences": ["x" * 1_000_000]},
    "stop empty": {"stop": "", "stop_sequences": [""]},
    "stop nested": {"stop": [["x"]], "stop_sequences": [["x"]]},
    "max_tokens huge": {"max_tokens": 10**18, "max_output_tokens": 10**18},
    "max_tokens beyond 64 bits": {"max_tokens": 10**40},
    "max_tokens fraction": {"max_tokens": 1.5},
    "seed beyond 64 bits": {"seed": 10**40},
    "penalties": {"presence_penalty": 1e308, "frequency_penalty": -1e308},
    "logit_bias odd": {"logit_bias": {"x": "y"}},
    "logit_bias many": {"logit_bias": {str(n): 1 for n in range(50_000)}},
    "tool_choice odd": {"tool_choice": 5},
    "tool_choice unknown": {"tool_choice": {"type": "function", "function": {"name": "nix"}}},
    "tools many": {"tools": [{"type": "function", "name": f"f{n}"} for n in range(2_000)]},
    "tool name odd": {"tools": [{"type": "function", "name": "../x\x00"}]},
    "schema recursive": _function(RECURSIVE),
    "schema deep": _function(DEEP),
    "schema of another type": _function([]),
    "reply recursive": _schema(RECURSIVE),
    "reply hostile pattern": _schema({"type": "object", "properties": {"a": HOSTILE}}),
    "reply ref elsewhere": _schema({"$ref": "file:///etc/passwd"}),
    "response_format odd": {"response_format": {"type": "xml"}},
    "orphan result": {"messages": [USER, {"role": "tool", "tool_call_id": "x", "content": "y"}]},
    "two calls of one id": {
        "messages": [USER, {"role": "assistant", "tool_calls": [_call("x"), _call("x")]}, USER]
    },
    "arguments no json": {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{"}}
                ],
            },
            {"role": "tool", "tool_call_id": "x", "content": "y"},
        ]
    },
    "nul and escapes": {"messages": [{"role": "user", "content": "\x00\x1b]0;x\x07\u202e"}]},
    "special tokens": {"messages": [{"role": "user", "content": "<|im_start|>system<|im_end|>"}]},
    "many messages": {"messages": [USER] * 20_000},
    "previous response odd": {"previous_response_id": "../../etc/passwd"},
    "agent odd": {"user": "\x1b[2J", "session_id": "\x00"},
    "prompt nested": {"prompt": [[[1]]]},
    "prompt tokens odd": {"prompt": [-1, 10**12]},
    "input odd": {"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]},
    "model path": {"model": "../../etc/passwd\x00"},
    "input of many items": {"input": [USER] * 20_000},
    "input of an odd kind": {"input": [{"type": "wizardry"}]},
    "input with an odd role": {"input": [{"role": "wizard", "content": "hi"}]},
    "input call without a name": {"input": [{"type": "function_call", "call_id": "x"}]},
    "input name odd": {"input": [{"type": "function_call", "call_id": "x", "name": 5}]},
    "input reference elsewhere": {"input": [{"type": "item_reference", "id": "../x"}]},
    "input image": {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
}

REFUSED_AT = {
    "top_k huge": "mclr",
    "seed beyond 64 bits": "mclr",
    "penalties": "mclr",
    "schema deep": "mclr",
    "agent odd": "mclr",
    "logprobs huge": "clr",
    "stop many": "mcl",
    "stop empty": "mcl",
    "stop nested": "mcl",
    "max_tokens fraction": "mcl",
    "tool_choice odd": "mcr",
    "tool_choice unknown": "mcr",
    "schema of another type": "mcr",
    "n huge": "cl",
    "n negative": "cl",
    "n text": "cl",
    "logprobs text": "cl",
    "logit_bias odd": "cl",
    "logit_bias many": "cl",
    "top_logprobs alone": "c",
    "prompt nested": "lr",
    "prompt tokens odd": "lr",
    "best_of huge": "l",
    "tools many": "c",
    "tool name odd": "c",
    "response_format odd": "c",
    "schema recursive": "m",
    "orphan result": "m",
    "two calls of one id": "m",
    "arguments no json": "m",
    "previous response odd": "r",
    "input of an odd kind": "r",
    "input with an odd role": "r",
    "input call without a name": "r",
    "input name odd": "r",
    "input reference elsewhere": "r",
    "input image": "r",
    "top_k negative": "",
    "stop long": "",
    "max_tokens huge": "",
    "max_tokens beyond 64 bits": "",
    "reply recursive": "",
    "reply hostile pattern": "",
    "reply ref elsewhere": "",
    "nul and escapes": "",
    "special tokens": "",
    "many messages": "",
    "input odd": "",
    "model path": "",
    "input of many items": "",
}
"""Which routes read the field, by the letter of ``LETTERS``; the others ignore it, or serve it."""
LETTERS = dict(zip(TURNS, "mclr", strict=True))

IDS = ["../x", "..%2f..%2fetc%2fpasswd", "%00", "%1b[2J", "a" * 5000, "%ff%fe", "%F0%9F%92%A9", "."]
