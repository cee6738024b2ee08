"""Several replies to one request: numbered, seeded, cancelled together, and nothing left behind."""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from typing import Any

import pytest

from engine.agent_commands import RemoveAgent
from engine.commands import Abort
from engine.errors import EngineFailedError, QueueFullError
from engine.request import MAX_AGENT_ID_CHARS
from tests.api.conftest import Served
from tests.api.word_engine import MODEL_ID, NUM_CACHED_TOKENS, Script

ROUTE = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
LONG = Script(words=("x",) * 10_000, step_s=0.01)


def endings(served: Served) -> list[Abort | RemoveAgent]:
    """What ended the turns of this test; the last one's agents may still be on their way out."""
    own = {request.agent_id for request in served.engine.requests}
    ids = {request.request_id for request in served.engine.requests}
    return [
        command
        for command in served.engine.commands
        if (isinstance(command, RemoveAgent) and command.agent_id in own)
        or (isinstance(command, Abort) and command.request_id in ids)
    ]


def removed(served: Served) -> list[str]:
    return [command.agent_id for command in endings(served) if isinstance(command, RemoveAgent)]


def test_every_choice_is_a_reply(served: Served) -> None:
    completion = served.openai.chat.completions.create(model=MODEL_ID, messages=HELLO, n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    texts = {choice.message.content for choice in completion.choices}
    assert texts == {"Paris is the capital."}
    usage = completion.usage
    assert usage is not None
    assert usage.prompt_tokens == len(served.engine.requests[0].prompt_token_ids)
    assert usage.completion_tokens == 15
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == NUM_CACHED_TOKENS


def test_choices_are_streamed_side_by_side(served: Served) -> None:
    served.engine.script = Script(step_s=0.01)
    texts: dict[int, str] = defaultdict(str)
    reasons: dict[int, str] = {}
    order: list[int] = []
    chunks = served.openai.chat.completions.create(
        model=MODEL_ID,
        messages=HELLO,
        n=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            order.append(choice.index)
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
        last = chunk
    assert texts == dict.fromkeys(range(3), "Paris is the capital.")
    assert reasons == dict.fromkeys(range(3), "stop")
    assert order != sorted(order)
    assert last.usage is not None
    assert last.usage.completion_tokens == 15


def test_each_choice_has_its_own_seed(served: Served) -> None:
    body = {"model": "", "messages": HELLO, "n": 3, "seed": 2**63 - 1}
    assert served.http.post(ROUTE, json=body).status_code == 200
    assert [r.sampling.seed for r in served.engine.requests] == [2**63 - 1, 0, 1]


@pytest.mark.parametrize("stream", [True, False])
def test_only_the_first_choice_is_the_agents_and_the_others_agents_go(
    served: Served, stream: bool
) -> None:
    body = {"model": "", "messages": HELLO, "n": 3, "stream": stream}
    for agent_id in ("repo-a", "a" * MAX_AGENT_ID_CHARS):
        served.engine.reset()
        reply = served.http.post(ROUTE, json=body, headers={"x-agent-id": agent_id})
        assert reply.status_code == 200
        first, *others = [request.agent_id for request in served.engine.requests]
        assert first == agent_id
        short_lived = [request.is_short_lived for request in served.engine.requests]
        assert short_lived == [False, True, True]
        assert len(set(others)) == 2
        assert all(other and other.startswith(agent_id[:100]) for other in others)
        assert served.engine.wait_for(lambda: len(removed(served)) == 2)
        assert removed(served) == others


def test_choices_without_an_agent_id_are_named_after_the_first(served: Served) -> None:
    served.http.post(ROUTE, json={"model": "", "messages": HELLO, "n": 2})
    first, second = served.engine.requests
    assert first.agent_id is None
    assert second.agent_id is not None
    assert second.agent_id.startswith("anon-1/choice-2-")


@pytest.mark.parametrize("stream", [True, False])
def test_a_dropped_connection_ends_all_choices(served: Served, stream: bool) -> None:
    served.engine.script = LONG
    body = json.dumps({"model": "", "messages": HELLO, "n": 4, "stream": stream})
    with socket.create_connection(("127.0.0.1", served.server.port)) as client:
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1:{served.server.port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall((head + body).encode())
        assert served.engine.wait_for(
            lambda: sum(turn.num_words > 1 for turn in served.engine.running) == 4
        )
    assert served.engine.wait_for(lambda: not served.engine.running)
    assert len(served.engine.aborted) == 4
    assert served.engine.wait_for(lambda: len(removed(served)) == 3)
    kinds = [type(command) for command in endings(served)]
    assert kinds == [Abort] * 4 + [RemoveAgent] * 3


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_of_one_choice_refuses_the_request(served: Served, stream: bool) -> None:
    served.engine.script = LONG
    served.engine.refuse_after = 2
    served.engine.script.refuse = QueueFullError("the queue is full", 2.0)
    body = {"model": "", "messages": HELLO, "n": 3, "stream": stream}
    reply = served.http.post(ROUTE, json=body)
    assert reply.status_code == 429
    assert served.engine.wait_for(lambda: not served.engine.running)
    assert len(served.engine.aborted) == 2
    assert served.engine.wait_for(lambda: len(removed(served)) == 2)


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_of_one_choice_fails_the_request(served: Served, stream: bool) -> None:
    served.engine.script = Script(fail_at=2, error=EngineFailedError("NaN in logits"))
    reply = served.http.post(ROUTE, json={"model": "", "messages": HELLO, "n": 2, "stream": stream})
    assert reply.status_code == (200 if stream else 500)
    assert reply.text.count("NaN in logits") == 1
    assert not stream or reply.text.endswith("data: [DONE]\n\n")
    assert served.engine.wait_for(lambda: len(removed(served)) == 1)
