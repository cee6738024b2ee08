"""Streams in time: silence, disconnects, failures, shutdown."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

from app.api.settings import ApiSettings
from engine.commands import Abort, Generate
from engine.errors import (
    DrainingError,
    EngineFailedError,
    PoolExhaustedError,
    QueueFullError,
    StokerError,
)
from engine.snapshot import EngineStatus
from tests.api.conftest import Serve, Served
from tests.api.word_engine import MODEL_ID, Script

ANTHROPIC = "/v1/messages"
OPENAI = "/v1/chat/completions"
RESPONSES = "/v1/responses"
COMPLETIONS = "/v1/completions"
USER: Any = {"role": "user", "content": "hi"}
ROUTES: dict[str, dict[str, Any]] = {
    ANTHROPIC: {"max_tokens": 99, "messages": [USER]},
    OPENAI: {"max_tokens": 99, "messages": [USER]},
    RESPONSES: {"max_output_tokens": 99, "input": "hi"},
    COMPLETIONS: {"max_tokens": 99, "prompt": "hi"},
}
QUICK_PING = ApiSettings(port=0, ping_s=0.1)


def request_bytes(served: Served, route: str, *, stream: bool) -> bytes:
    body = json.dumps({"model": "", "stream": stream, **ROUTES[route]})
    return (
        f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1:{served.server.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def is_queued(served: Served) -> bool:
    return any(isinstance(command, Generate) for command in served.engine.commands)


def is_prefilling(served: Served) -> bool:
    return any(turn.is_prefilling for turn in served.engine.running)


def is_decoding(served: Served) -> bool:
    return any(turn.num_words > 1 for turn in served.engine.running)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("script", "reached", "state"),
    [
        (Script(queue_s=60), is_queued, "queued"),
        (Script(prefill_s=60), is_prefilling, "prefilling"),
        (Script(words=("x",) * 10_000, step_s=0.01), is_decoding, "decoding"),
    ],
)
def test_a_dropped_connection_aborts_its_turn(
    served: Served,
    route: str,
    stream: bool,
    script: Script,
    reached: Callable[[Served], bool],
    state: str,
) -> None:
    served.engine.script = script
    with socket.create_connection(("127.0.0.1", served.server.port)) as client:
        client.sendall(request_bytes(served, route, stream=stream))
        assert served.engine.wait_for(lambda: reached(served))
    assert served.engine.wait_for(lambda: bool(served.engine.aborted))
    request_id = served.engine.requests[0].request_id
    assert served.engine.aborted == [(request_id, state)]
    assert served.engine.wait_for(lambda: not served.engine.running)


def test_an_sdk_that_closes_its_stream_aborts_the_turn(served: Served) -> None:
    served.engine.script = Script(words=("x",) * 10_000, step_s=0.01)
    with served.anthropic.messages.stream(
        model=MODEL_ID, max_tokens=9999, messages=[USER]
    ) as stream:
        next(iter(stream.text_stream))
    assert served.engine.wait_for(lambda: bool(served.engine.aborted))


def test_a_finished_turn_is_not_aborted(served: Served) -> None:
    for route, fields in ROUTES.items():
        for stream in (True, False):
            body = {"model": "", "stream": stream, **fields}
            assert served.http.post(route, json=body).status_code == 200
    assert served.http.get("/v1/models").status_code == 200
    assert not any(isinstance(command, Abort) for command in served.engine.commands)


@pytest.mark.parametrize(
    "script",
    [Script(queue_s=0.45), Script(prefill_s=0.45), Script(step_s=0.25, words=("a", "b"))],
    ids=["queued", "prefilling", "decoding"],
)
def test_silence_is_filled_with_pings(serve: Serve, script: Script) -> None:
    served = serve(script, QUICK_PING)
    body = {"model": "", "max_tokens": 99, "messages": [USER], "stream": True}
    arrivals: list[tuple[float, str]] = []
    with served.http.stream("POST", ANTHROPIC, json=body) as reply:
        start = time.monotonic()
        arrivals.extend((time.monotonic() - start, text) for text in reply.iter_text())
    text = "".join(piece for _, piece in arrivals)
    # One ping belongs to the opening of every stream.
    assert text.count('event: ping\ndata: {"type":"ping"}\n\n') >= 4
    times = [at for at, _ in arrivals]
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    assert max(gaps) < 0.3
    for route in (OPENAI, COMPLETIONS):
        reply_text = served.http.post(route, json={"stream": True, **ROUTES[route]}).text
        assert reply_text.count(": ping\n\n") >= 3


@pytest.mark.parametrize("script", [Script(queue_s=0.35), Script(prefill_s=0.35)])
def test_sdks_read_over_pings(serve: Serve, script: Script) -> None:
    served = serve(script, QUICK_PING)
    with served.anthropic.messages.stream(model=MODEL_ID, max_tokens=99, messages=[USER]) as stream:
        message = stream.get_final_message()
    assert message.content[0].type == "text"
    assert message.content[0].text == "Paris is the capital."
    chunks = served.openai.chat.completions.create(model=MODEL_ID, messages=[USER], stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Paris is the capital."


@pytest.mark.parametrize(
    ("error", "anthropic_status", "openai_status", "kinds"),
    [
        (
            QueueFullError("the queue is full", 2.2),
            529,
            429,
            ("overloaded_error", "server_overloaded"),
        ),
        (PoolExhaustedError("no room", 3.0), 529, 429, ("overloaded_error", "server_overloaded")),
        (DrainingError("bye", 3.0), 503, 503, ("api_error", "service_unavailable")),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_is_a_status_even_for_a_stream(
    served: Served,
    error: StokerError,
    anthropic_status: int,
    openai_status: int,
    kinds: tuple[str, str],
    stream: bool,
) -> None:
    served.engine.script = Script(refuse=error)
    body = {"model": "", "max_tokens": 9, "messages": [USER], "stream": stream}
    reply = served.http.post(ANTHROPIC, json=body)
    assert reply.status_code == anthropic_status
    assert reply.headers["retry-after"] == "3"
    assert reply.json()["error"] == {"type": kinds[0], "message": str(error)}
    reply = served.http.post(OPENAI, json=body)
    assert reply.status_code == openai_status
    assert reply.headers["retry-after"] == "3"
    assert reply.json()["error"]["type"] == kinds[1]


def test_a_failure_in_mid_stream_is_an_error_event(served: Served) -> None:
    served.engine.script = Script(fail_at=2, error=EngineFailedError("NaN in logits"))
    stream = served.anthropic.messages.create(
        model=MODEL_ID, max_tokens=9, messages=[USER], stream=True
    )
    with pytest.raises(anthropic.APIStatusError, match="NaN in logits") as caught:
        list(stream)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "api_error"
    chunks = served.openai.chat.completions.create(model=MODEL_ID, messages=[USER], stream=True)
    with pytest.raises(openai.APIError, match="NaN in logits"):
        list(chunks)


def test_a_failure_is_a_status_where_nothing_was_sent(served: Served) -> None:
    served.engine.script = Script(fail_at=2, error=EngineFailedError("NaN in logits"))
    with pytest.raises(anthropic.InternalServerError, match="NaN in logits"):
        served.anthropic.messages.create(model=MODEL_ID, max_tokens=9, messages=[USER])
    with pytest.raises(openai.InternalServerError, match="NaN in logits"):
        served.openai.chat.completions.create(model=MODEL_ID, messages=[USER])


def test_a_turn_aborted_at_the_server_is_not_sold_as_finished(served: Served) -> None:
    served.engine.script = Script(abort_at=2)
    with pytest.raises(anthropic.PermissionDeniedError, match="aborted at the server"):
        served.anthropic.messages.create(model=MODEL_ID, max_tokens=9, messages=[USER])
    stream = served.anthropic.messages.create(
        model=MODEL_ID, max_tokens=9, messages=[USER], stream=True
    )
    with pytest.raises(anthropic.APIStatusError, match="aborted at the server"):
        list(stream)


@pytest.mark.parametrize("stream", [True, False])
def test_a_dead_engine_ends_the_wait(serve: Serve, stream: bool) -> None:
    served = serve(Script(queue_s=60), QUICK_PING)
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=5) as client:
        client.sendall(request_bytes(served, ANTHROPIC, stream=stream))
        assert served.engine.wait_for(lambda: is_queued(served))
        served.engine.set_status(EngineStatus.FAILED, "out of memory")
        received = b""
        while b"api_error" not in received:
            piece = client.recv(65536)
            assert piece
            received += piece
    assert b"the engine stopped: out of memory" in received
    assert received.startswith(b"HTTP/1.1 200" if stream else b"HTTP/1.1 500")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (EngineStatus.STARTING, "loading"),
        (EngineStatus.LOADING, "loading"),
        (EngineStatus.DRAINING, "shutting down"),
        (EngineStatus.STOPPED, "shutting down"),
        (EngineStatus.FAILED, "the engine failed: boom"),
    ],
)
def test_an_engine_that_does_not_serve_is_a_503(
    served: Served, status: EngineStatus, text: str
) -> None:
    served.engine.set_status(status, "boom", progress=0.5)
    body = {"model": "", "max_tokens": 9, "messages": [USER]}
    for route in (ANTHROPIC, OPENAI, f"{ANTHROPIC}/count_tokens"):
        reply = served.http.post(route, json=body)
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) >= 1
        assert text in reply.json()["error"]["message"]


def test_no_chat_format_yet_is_a_503_with_an_estimate(served: Served) -> None:
    served.engine.chat_format = None
    served.engine.set_status(EngineStatus.SERVING, progress=0.4)
    reply = served.http.post(ANTHROPIC, json={"messages": [USER]})
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "12"  # 8 s for 40 %


def test_a_stop_ends_open_streams_with_an_error(serve: Serve) -> None:
    served = serve(Script(words=("x",) * 10_000, step_s=0.01))
    pieces: list[str] = []
    with served.http.stream(
        "POST",
        ANTHROPIC,
        json={"model": "", "max_tokens": 9999, "messages": [USER], "stream": True},
    ) as reply:
        for text in reply.iter_text():
            if not pieces:
                served.server.stop()
            pieces.append(text)
    assert "event: error" in pieces[-1]
    assert "the server is shutting down" in pieces[-1]
    assert served.server.join(3.0)
    assert served.engine.wait_for(lambda: bool(served.engine.aborted))
    assert not served.engine.running


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_that_ended_before_the_engine_is_delivered(serve: Serve, stream: bool) -> None:
    served = serve(Script(queue_s=0.2))
    body = {"model": "", "max_tokens": 99, "messages": [USER], "stream": stream}

    def end_all(_request_id: str) -> None:
        served.engine.set_status(EngineStatus.STOPPED)
        served.server.stop()

    served.engine.at_end = end_all
    reply = served.http.post(ANTHROPIC, json=body)
    assert reply.status_code == 200
    assert "end_turn" in reply.text
    assert "error" not in reply.text


def test_eight_streams_at_once_keep_their_texts_apart(served: Served) -> None:
    served.engine.script = Script(words=tuple(f" {i}" for i in range(50)), step_s=0.005)
    sockets = []
    for _ in range(8):
        client = socket.create_connection(("127.0.0.1", served.server.port), timeout=10)
        client.sendall(request_bytes(served, OPENAI, stream=True))
        sockets.append(client)
    for client in sockets:
        received = b""
        while b"[DONE]" not in received:
            received += client.recv(65536)
        client.close()
        contents = [
            json.loads(line[6:])["choices"][0]["delta"].get("content", "")
            for line in received.decode().split("\n")
            if line.startswith("data: {")
        ]
        assert "".join(contents) == "".join(f" {i}" for i in range(50))
