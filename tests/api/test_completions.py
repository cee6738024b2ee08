"""Legacy completions: text that goes on without a chat template."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, Script, prompt_text

ROUTE = "/v1/completions"


def texts_of(served: Served, **fields: Any) -> list[str]:
    reply = served.http.post(ROUTE, json={"model": MODEL_ID, **fields})
    assert reply.status_code == 200, reply.text
    return [choice["text"] for choice in reply.json()["choices"]]


def test_sdk_gets_a_completion_without_a_template(served: Served) -> None:
    completion = served.openai.completions.create(model=MODEL_ID, prompt="The capital is")
    assert prompt_text(served.engine.requests[0]) == "The capital is"
    assert completion.object == "text_completion"
    assert completion.choices[0].text == "Paris is the capital."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == len("The capital is")
    assert completion.usage.completion_tokens == 5


def test_sixteen_tokens_are_the_default(served: Served) -> None:
    served.engine.script = Script(words=("x",) * 100)
    completion = served.openai.completions.create(model=MODEL_ID, prompt="go")
    assert completion.choices[0].text == "x" * 16
    assert completion.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("ab", ["ab"]),
        (["ab", "c"], ["ab", "c"]),
        ([97, 98], ["ab"]),
        ([[97, 98], [99]], ["ab", "c"]),
    ],
)
def test_a_prompt_is_text_or_tokens_or_several(
    served: Served, prompt: Any, prompts: list[str]
) -> None:
    assert len(texts_of(served, prompt=prompt)) == len(prompts)
    assert [prompt_text(request) for request in served.engine.requests] == prompts


def test_several_replies_to_several_prompts_are_numbered_prompt_by_prompt(served: Served) -> None:
    texts = texts_of(served, prompt=["a", "b"], n=2, echo=True, max_tokens=1)
    assert texts == ["aParis", "aParis", "bParis", "bParis"]
    usage = served.http.post(ROUTE, json={"model": "", "prompt": ["a", "bc"], "n": 2}).json()
    assert usage["usage"]["prompt_tokens"] == 3
    assert usage["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize("prompt", ["Say: ", list(b"Say: ")])
def test_an_echo_repeats_the_prompt(served: Served, prompt: Any) -> None:
    assert texts_of(served, prompt=prompt, echo=True) == ["Say: Paris is the capital."]
    stream = served.openai.completions.create(model=MODEL_ID, prompt=prompt, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "Say: Paris is the capital."


def test_a_stream_of_several(served: Served) -> None:
    chunks = list(
        served.openai.completions.create(
            model=MODEL_ID,
            prompt=["a", "b"],
            stream=True,
            stream_options={"include_usage": True},
            stop="the",
        )
    )
    for index in (0, 1):
        choices = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert "".join(choice.text for choice in choices) == "Paris is"
        assert choices[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_how_likely_tokens_were(served: Served, stream: bool) -> None:
    body = {"model": "", "prompt": "a", "logprobs": 2, "max_tokens": 2, "stream": stream}
    reply = served.http.post(ROUTE, json=body)
    if stream:
        chunks = list(
            served.openai.completions.create(
                model=MODEL_ID, prompt="a", logprobs=2, max_tokens=2, stream=True
            )
        )
        rows = [c.choices[0].logprobs for c in chunks if c.choices[0].logprobs is not None]
        tokens = [token for row in rows for token in row.tokens or []]
        offsets = [offset for row in rows for offset in row.text_offset or []]
    else:
        logprobs = reply.json()["choices"][0]["logprobs"]
        tokens, offsets = logprobs["tokens"], logprobs["text_offset"]
        assert logprobs["token_logprobs"] == [-0.25, -0.25]
        assert logprobs["top_logprobs"][0] == {"Paris": -0.25, "PARIS": -2.0}
    assert tokens == ["Paris", " is"]
    assert offsets == [0, 5]


def test_calls_and_marks_are_text(served: Served) -> None:
    said = '<think>x</think><tool_call>\n{"name": "x", "arguments": {}}\n</tool_call>'
    served.engine.script = Script(words=(said,))
    assert texts_of(served, prompt="a") == [said]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt.1"),
        ({"prompt": [[97], []]}, "prompt.1"),
        ({"prompt": [True]}, "prompt.0"),
        ({"prompt": [256]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**30]}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 4}, "prompt"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"suffix": "b"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 1, "echo": True}, "logprobs"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    served: Served, fields: dict[str, Any], name: str
) -> None:
    reply = served.http.post(ROUTE, json={"model": "", "prompt": "a", **fields})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["message"].startswith(name)
    assert served.engine.requests == []
