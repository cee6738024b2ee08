"""What is set for a model holds where a request does not say otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.byte_chat_format import ByteChatFormat
from tests.api.conftest import Served

TALK: Any = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"max_tokens": 9, "messages": TALK},
    "/v1/chat/completions": {"messages": TALK},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}


@pytest.fixture
def tuned(served: Served) -> Iterator[Served]:
    chat = served.engine.chat_format
    assert isinstance(chat, ByteChatFormat)
    chat.defaults = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}
    yield served
    chat.defaults = {}


@pytest.mark.parametrize("route", BODIES)
def test_request_without_sampling_has_the_models_own(tuned: Served, route: str) -> None:
    reply = tuned.http.post(route, json=BODIES[route])

    assert reply.status_code == 200
    sampling = tuned.engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.7, 0.8, 20)
    assert sampling.repetition_penalty == 1.1
    if route == "/v1/responses":
        assert (reply.json()["temperature"], reply.json()["top_p"]) == (0.7, 0.8)


@pytest.mark.parametrize("route", BODIES)
def test_request_has_the_last_word(tuned: Served, route: str) -> None:
    asked = {"temperature": 0, "top_p": None, "top_k": 5}
    tuned.http.post(route, json=BODIES[route] | asked)

    sampling = tuned.engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.0, 0.8, 5)
