"""How likely the tokens of a response's text were."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, Script

ROUTE = "/v1/responses"
TOOLS: list[Any] = [
    {"type": "function", "name": "get_weather", "parameters": {"type": "object"}},
]
CALL = Script(
    words=(
        "Let me see.\n",
        '<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call>',
    )
)
THOUGHT = Script(words=("<think>", "It is", " easy.", "</think>", "\n\nPar", "is."))
LOGPROBS: Any = ["message.output_text.logprobs"]


@pytest.mark.parametrize(
    ("script", "tokens"),
    [
        (Script(words=("Par", "is", " is.")), ["Par", "is", " is."]),
        (CALL, ["Let me see.\n"]),
        (THOUGHT, ["\n\nPar", "is."]),
        (Script(words=("a <", "b", " <tool", " x")), ["a <", "b", " <tool", " x"]),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_how_likely_the_tokens_of_a_text_were(
    served: Served, script: Script, tokens: list[str], streams: bool
) -> None:
    """Those of marks, calls and reasoning are told nowhere."""
    served.engine.script = script
    asked: Any = {"model": MODEL_ID, "input": "hi", "include": LOGPROBS, "top_logprobs": 2}
    if streams:
        told = []
        with served.openai.responses.stream(**asked, tools=TOOLS) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    told += event.logprobs
                if event.type == "response.output_text.done":
                    assert [row.token for row in event.logprobs] == tokens
            response = stream.get_final_response()
        assert [row.token for row in told] == tokens
    else:
        response = served.openai.responses.create(**asked, tools=TOOLS)
    (text,) = [
        part
        for item in response.output
        if item.type == "message"
        for part in item.content
        if part.type == "output_text"
    ]
    rows = text.logprobs or []
    assert [row.token for row in rows] == tokens
    assert (rows[0].logprob, rows[0].bytes) == (-0.25, list(tokens[0].encode()))
    assert [top.token for top in rows[0].top_logprobs] == [tokens[0], tokens[0].upper()]
    assert response.top_logprobs == 2


def test_probabilities_are_told_where_they_were_asked_for(served: Served) -> None:
    for fields, num in (({}, None), ({"include": LOGPROBS}, 0), ({"top_logprobs": 3}, 3)):
        body = {"model": "", "input": "hi", **fields}
        assert served.http.post(ROUTE, json=body).status_code == 200
        assert served.engine.requests[-1].sampling.num_logprobs == num
